// Checks that every tensor of a file must pass, whatever the format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/errors.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

constexpr std::size_t kMaxTensorRank = 4;
constexpr std::size_t kMaxTensors = 64u << 10;

/// Bytes of a tensor with these dimensions (outermost first). Throws if a dimension is zero, the product overflows, or
/// rows do not divide into blocks. `field` is the tensor's name, safe to print.
std::uint64_t checked_tensor_bytes(const std::string& file, const std::string& field, DType dtype,
                                   std::span<const std::uint64_t> dims);

/// Where a tensor lies in a data section.
struct TensorSpan {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::string name;
};

/// Sorts the spans and throws, naming both, if two overlap.
void check_no_overlap(const std::string& file, std::vector<TensorSpan>& spans);

/// "FILE: NAME: type T is not supported; supported: …"
CheckpointError unsupported_type(const std::string& file, const std::string& field, const std::string& type,
                                 CheckpointFormat format);

/// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace inferd
