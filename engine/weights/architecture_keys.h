// ArchitectureKeys: the GGUF keys that one architecture prefixes with its name, range-checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/weights/gguf_metadata.h"

namespace inferd {

/// Keys of one architecture: "block_count" is "qwen2.block_count". What is outside [low, high] or missing where it is
/// required throws CheckpointError.
class ArchitectureKeys {
 public:
  /// `metadata` outlives it; `file` names it in errors.
  ArchitectureKeys(const GgufMetadata& metadata, std::string architecture, std::string file)
      : metadata_(metadata), architecture_(std::move(architecture)), file_(std::move(file)) {}

  std::string key(std::string_view name) const { return architecture_ + "." + std::string(name); }
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  std::int64_t require_integer(std::string_view name, std::int64_t low, std::int64_t high) const;
  /// A number, or a list with one equal number a layer.
  std::optional<std::int64_t> uniform(std::string_view name, std::int64_t low, std::int64_t high) const;
  std::optional<double> number(std::string_view name, double low, double high) const;
  const GgufMetadata& metadata() const { return metadata_; }
  const std::string& file() const { return file_; }

 private:
  void check(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) const;

  const GgufMetadata& metadata_;
  std::string architecture_;
  std::string file_;
};

}  // namespace inferd
