// How the two kinds of checkpoints are opened, and what they share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

/// A .gguf file, or the first of a split set together with the others.
std::unique_ptr<Checkpoint> open_gguf_model(const std::filesystem::path& path);
/// A Hugging Face folder: config.json and safetensors, sharded or not.
std::unique_ptr<Checkpoint> open_model_folder(const std::filesystem::path& path);

/// Tensors by name over one or more mapped files. Immutable once filled, thread-safe.
class TensorTable {
 public:
  /// Takes `tensors`, which lie in `file`. Throws CheckpointError if a name is there already.
  void add(std::shared_ptr<const MappedFile> file, std::vector<StoredTensor> tensors);
  std::span<const StoredTensor> all() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;
  void release(const StoredTensor& tensor) const;

 private:
  struct NameHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string, std::size_t, NameHash, std::equal_to<>> index_;
};

}  // namespace inferd
