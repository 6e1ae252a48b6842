// Typed JSON access for tokenizer files.
#include "engine/text/tokenizer_fields.h"

#include <utility>

#include "base/errors.h"
#include "engine/text/vocabulary.h"

namespace inferd {

TokenizerFields::TokenizerFields(const Json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {
  if (!value.is_object())
    throw CheckpointError(file_, path_.empty() ? "top level" : path_, "an object", value.type_name());
}

const Json* TokenizerFields::find(std::string_view key) const {
  for (const auto& [name, value] : value_->get_ref<const Json::object_t&>()) {
    if (name == key) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

void TokenizerFields::fail(std::string_view key, const std::string& expected, const std::string& found) const {
  throw CheckpointError(file_, path_of(key), expected, found);
}

bool TokenizerFields::boolean(std::string_view key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) fail(key, "true or false", value->type_name());
  return value->get<bool>();
}

std::optional<std::string> TokenizerFields::string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(key, "a string", value->type_name());
  return value->get<std::string>();
}

std::string TokenizerFields::required_string(std::string_view key) const {
  std::optional<std::string> value = string(key);
  if (!value) fail(key, "a string", "nothing");
  return *std::move(value);
}

std::optional<std::int64_t> TokenizerFields::integer(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) fail(key, "an integer", value->type_name());
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > (std::uint64_t{1} << 62)) {
    fail(key, "an integer below 2^62", std::to_string(value->get<std::uint64_t>()));
  }
  return value->get<std::int64_t>();
}

const Json* TokenizerFields::array(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_array()) fail(key, "an array", value->type_name());
  return value;
}

std::optional<TokenizerFields> TokenizerFields::object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return TokenizerFields(*value, file_, path_of(key));
}

std::int32_t checked_id(const Json& value, const std::string& file, const std::string& field) {
  const std::string expected = "an id below " + std::to_string(kMaxVocabulary);
  if (!value.is_number_integer()) throw CheckpointError(file, field, expected, value.type_name());
  if (value.is_number_unsigned()
          ? value.get<std::uint64_t>() >= kMaxVocabulary
          : (value.get<std::int64_t>() < 0 || value.get<std::int64_t>() >= std::int64_t{kMaxVocabulary})) {
    throw CheckpointError(file, field, expected, dump_json(value));
  }
  return value.get<std::int32_t>();
}

std::optional<Json> read_tokenizer_json(const Checkpoint& checkpoint, std::string_view file) {
  // Llama 3's file has 17 MB and a million values in merge pairs.
  constexpr std::size_t kMaxBytes = std::size_t{96} << 20;
  const std::optional<std::string> text = checkpoint.read_file(file, kMaxBytes);
  if (!text) return std::nullopt;
  try {
    return parse_json(*text, {.max_bytes = kMaxBytes, .max_depth = 64, .max_nodes = 6'000'000});
  } catch (const JsonError& error) {
    throw CheckpointError(checkpoint.path() + "/" + std::string(file) + ": " + error.what());
  }
}

}  // namespace inferd
