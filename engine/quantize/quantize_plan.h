// QuantizePlan: which tensors of a checkpoint are quantised at load, to which types, and where the result lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/weights/checkpoint.h"

namespace inferd {

/// The key `quantization`.
enum class LoadQuantization { none, int8, int4 };

/// "none", "int8" or "int4"; anything else is a programmer's error (the settings were checked).
LoadQuantization parse_load_quantization(std::string_view text);
std::string_view load_quantization_name(LoadQuantization quantization);

/// One tensor that will be replaced.
struct PlannedTensor {
  const StoredTensor* source;
  DType dtype;        // what it becomes
  std::int64_t rows;  // of all experts, where a tensor holds them stacked
  std::int64_t columns;
  std::size_t offset;  // of its blocks in the payload, a multiple of 64
  std::size_t bytes;
};

struct QuantizePlan {
  std::vector<PlannedTensor> tensors;  // in the order of the checkpoint
  std::size_t payload_bytes = 0;
  std::size_t bytes_before = 0;  // of the whole checkpoint
  std::size_t bytes_after = 0;
};

/// Matrices of the layers become Q8_0 (int8) or Q4_1 (int4); embeddings and output matrices Q8_0 either way; norms,
/// biases, routers of experts, position tables and rows that are no multiple of 32 stay. Throws ConfigError if the
/// checkpoint is quantised already.
QuantizePlan plan_quantization(const Checkpoint& checkpoint, LoadQuantization quantization);

}  // namespace inferd
