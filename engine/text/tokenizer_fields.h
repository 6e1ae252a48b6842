// TokenizerFields: typed access to one JSON object of a tokenizer file, with errors that name file and field.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

/// Borrows the JSON. A field that is absent or null gives the default; one of another type throws CheckpointError.
class TokenizerFields {
 public:
  /// Throws CheckpointError if `value` is no object.
  TokenizerFields(const Json& value, std::string file, std::string path);

  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }
  std::string path_of(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  bool boolean(std::string_view key, bool otherwise) const;
  std::optional<std::string> string(std::string_view key) const;
  std::string required_string(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key) const;
  /// Null if absent.
  const Json* array(std::string_view key) const;
  std::optional<TokenizerFields> object(std::string_view key) const;
  /// Any type; null pointer if absent or JSON null.
  const Json* find(std::string_view key) const;
  [[noreturn]] void fail(std::string_view key, const std::string& expected, const std::string& found) const;

 private:
  const Json* value_;
  std::string file_, path_;
};

/// An id from a file: an integer in [0, kMaxVocabulary). Throws CheckpointError.
std::int32_t checked_id(const Json& value, const std::string& file, const std::string& field);

/// Reads and parses a JSON file of the folder with limits fit for vocabularies. nullopt if absent. Throws
/// CheckpointError.
std::optional<Json> read_tokenizer_json(const Checkpoint& checkpoint, std::string_view file);

}  // namespace inferd
