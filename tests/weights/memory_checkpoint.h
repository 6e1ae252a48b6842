// A Checkpoint over texts and tensors in memory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/errors.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/gguf_file.h"

namespace inferd::test {

class MemoryCheckpoint final : public Checkpoint {
 public:
  /// A folder of texts.
  explicit MemoryCheckpoint(std::map<std::string, std::string> files) : files_(std::move(files)) {}
  /// A GGUF file; `bytes` must outlive it.
  explicit MemoryCheckpoint(std::span<const std::byte> bytes) : gguf_(read_gguf(bytes, "memory.gguf")) {}

  CheckpointFormat format() const override { return gguf_ ? CheckpointFormat::gguf : CheckpointFormat::hugging_face; }
  const std::string& path() const override { return path_; }
  const GgufMetadata* metadata() const override { return gguf_ ? &gguf_->metadata : nullptr; }
  std::optional<Json> json(std::string_view file) const override {
    const auto text = read_file(file, 64u << 20);
    if (!text) return std::nullopt;
    try {
      return parse_json(*text);
    } catch (const JsonError& error) {
      throw CheckpointError("memory/" + std::string(file) + ": " + error.what());
    }
  }
  std::optional<std::string> read_file(std::string_view file, std::size_t) const override {
    const auto found = files_.find(std::string(file));
    if (found == files_.end()) return std::nullopt;
    return found->second;
  }
  /// Tensors of a folder; what they point into must outlive it.
  void add(std::vector<StoredTensor> tensors) { tensors_ = std::move(tensors); }
  std::span<const StoredTensor> tensors() const override { return gguf_ ? gguf_->tensors : tensors_; }
  const StoredTensor* find(std::string_view name) const override {
    for (const StoredTensor& tensor : tensors()) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  void release(const StoredTensor&) const override {}

 private:
  std::string path_ = "memory";
  std::map<std::string, std::string> files_;
  std::vector<StoredTensor> tensors_;
  std::optional<GgufContents> gguf_;
};

}  // namespace inferd::test
