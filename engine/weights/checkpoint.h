// Checkpoint: one view of a model's files, whatever their format: named tensors in their stored types, and the texts
// beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "kernels/dtype.h"

namespace inferd {

/// One tensor of a file. `data` points into a mapping that the Checkpoint owns.
struct StoredTensor {
  std::string name;  // as in the file: Hugging Face names, or GGUF names ("blk.0.attn_q.weight")
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // PyTorch order, outermost first (GGUF's ne reversed)
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::string file;  // for error messages

  std::int64_t elements() const;
};

/// GGUF key/value metadata, checked for type at access. Arrays of numbers and strings are kept whole.
class GgufMetadata {
 public:
  virtual ~GgufMetadata() = default;
  virtual bool has(std::string_view key) const = 0;
  /// Absent: nullopt. Present with another type: CheckpointError naming file, key, expected, found.
  virtual std::optional<std::string> string(std::string_view key) const = 0;
  virtual std::optional<std::int64_t> integer(std::string_view key) const = 0;  // any integer type that fits
  virtual std::optional<double> number(std::string_view key) const = 0;         // any integer or float type
  virtual std::optional<bool> boolean(std::string_view key) const = 0;
  virtual const std::vector<std::string>* strings(std::string_view key) const = 0;  // nullptr if absent
  virtual std::optional<std::vector<std::int64_t>> integers(std::string_view key) const = 0;
  virtual std::optional<std::vector<float>> floats(std::string_view key) const = 0;
  virtual std::vector<std::string> keys() const = 0;
};

enum class CheckpointFormat { gguf, hugging_face };

/// The files of one model, memory-mapped and validated: every length, offset and count was checked against the file
/// before use. Immutable and thread-safe once opened. Errors are CheckpointErrors naming file, field, expected, found.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// Opens a .gguf file (or the first of a split set), or a Hugging Face folder (config.json + safetensors).
  static std::unique_ptr<Checkpoint> open(const std::filesystem::path& path);

  virtual CheckpointFormat format() const = 0;
  virtual const std::string& path() const = 0;
  /// GGUF metadata, or nullptr for a folder.
  virtual const GgufMetadata* metadata() const = 0;
  /// A JSON file of the folder ("config.json"); nullopt if absent or not a folder.
  virtual std::optional<Json> json(std::string_view file) const = 0;
  /// A small text or binary file of the folder (≤ max_bytes); nullopt if absent or not a folder.
  virtual std::optional<std::string> read_file(std::string_view file, std::size_t max_bytes) const = 0;

  /// How the tensors were quantised when they were loaded ("int4 from BF16"); empty if they are as stored.
  virtual std::string_view quantized_at_load() const { return {}; }

  virtual std::span<const StoredTensor> tensors() const = 0;
  virtual const StoredTensor* find(std::string_view name) const = 0;
  /// The tensor `name` if it has exactly this shape; throws otherwise.
  const StoredTensor& require(std::string_view name, std::initializer_list<std::int64_t> shape) const;
  /// Total bytes of all tensors.
  std::size_t tensor_bytes() const;
  /// Drops the pages of a tensor from memory once a backend holds its own copy.
  virtual void release(const StoredTensor& tensor) const = 0;
};

/// Widens a stored tensor of any type to f32. out.size() == tensor.elements().
void dequantize(const StoredTensor& tensor, std::span<float> out);

}  // namespace inferd
