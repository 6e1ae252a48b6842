// Parsing and typed access of GGUF metadata.
#include "engine/weights/gguf_metadata.h"

#include <array>
#include <limits>

#include "base/log.h"

namespace inferd {
namespace {

constexpr std::array<std::string_view, 13> kTypeNames{"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                      "bool", "string", "array", "u64", "i64", "f64"};

GgufType read_type(ByteReader& reader, const std::string& field) {
  const auto type = reader.read<std::uint32_t>(field);
  if (type >= kTypeNames.size()) {
    throw CheckpointError(reader.file(), field, "a value type from 0 to 12", std::to_string(type));
  }
  return static_cast<GgufType>(type);
}

/// Bytes of one number or bool.
std::size_t number_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    default:
      return 8;
  }
}

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Calls `use` with element `index` in its own type; bools as uint8_t.
template <typename Use>
auto with_element(GgufType type, const std::byte* at, Use use) {
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return use(load<std::uint8_t>(at));
    case GgufType::i8:
      return use(load<std::int8_t>(at));
    case GgufType::u16:
      return use(load<std::uint16_t>(at));
    case GgufType::i16:
      return use(load<std::int16_t>(at));
    case GgufType::u32:
      return use(load<std::uint32_t>(at));
    case GgufType::i32:
      return use(load<std::int32_t>(at));
    case GgufType::u64:
      return use(load<std::uint64_t>(at));
    case GgufType::i64:
      return use(load<std::int64_t>(at));
    case GgufType::f32:
      return use(load<float>(at));
    default:
      return use(load<double>(at));
  }
}

bool is_float(GgufType type) { return type == GgufType::f32 || type == GgufType::f64; }

constexpr auto kMaxInteger = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

}  // namespace

ParsedMetadata ParsedMetadata::parse(ByteReader& reader, std::uint64_t count) {
  ParsedMetadata metadata;
  metadata.file_ = reader.file();
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string key(reader.text(GgufLimits::kNameBytes, "metadata key " + std::to_string(i)));
    const std::string field = log_safe(key);
    const GgufType type = read_type(reader, field);
    Value value = type == GgufType::array ? read_array(reader, field) : read_scalar(reader, type, field);
    if (!metadata.values_.emplace(key, std::move(value)).second) {
      throw CheckpointError(reader.file(), field, "one value", "the key twice");
    }
  }
  return metadata;
}

ParsedMetadata::Value ParsedMetadata::read_scalar(ByteReader& reader, GgufType type, std::string_view field) {
  switch (type) {
    case GgufType::string:
      return std::string(reader.text(GgufLimits::kStringBytes, field));
    case GgufType::boolean: {
      const auto byte = reader.read<std::uint8_t>(field);
      if (byte > 1) throw CheckpointError(reader.file(), std::string(field), "a bool, 0 or 1", std::to_string(byte));
      return byte == 1;
    }
    case GgufType::f32:
    case GgufType::f64:
      return with_element(type, reader.take(number_bytes(type), field).data(),
                          [](auto value) { return static_cast<double>(value); });
    case GgufType::u8:
    case GgufType::u16:
    case GgufType::u32:
    case GgufType::u64:
      return with_element(type, reader.take(number_bytes(type), field).data(),
                          [](auto value) { return static_cast<std::uint64_t>(value); });
    default:
      return with_element(type, reader.take(number_bytes(type), field).data(),
                          [](auto value) { return static_cast<std::int64_t>(value); });
  }
}

ParsedMetadata::Value ParsedMetadata::read_array(ByteReader& reader, std::string_view field) {
  const GgufType type = read_type(reader, std::string(field));
  const auto count = reader.read<std::uint64_t>(field);
  if (count > GgufLimits::kArrayElements) {
    throw CheckpointError(reader.file(), std::string(field),
                          "at most " + std::to_string(GgufLimits::kArrayElements) + " elements", std::to_string(count));
  }
  if (type == GgufType::array) {
    throw CheckpointError(reader.file(), std::string(field), "an array of numbers or strings", "an array of arrays");
  }
  if (type != GgufType::string) {
    return NumberArray{type, static_cast<std::size_t>(count), reader.take(count * number_bytes(type), field)};
  }
  // Every string has at least its length field, so a claim beyond the file is refused before memory is taken.
  if (count * sizeof(std::uint64_t) > reader.remaining()) {
    throw CheckpointError(reader.file(), std::string(field), std::to_string(count) + " strings",
                          std::to_string(reader.remaining()) + " bytes before the end of the file");
  }
  std::vector<std::string> strings;
  strings.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) strings.emplace_back(reader.text(GgufLimits::kStringBytes, field));
  return strings;
}

const ParsedMetadata::Value* ParsedMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

void ParsedMetadata::wrong_type(std::string_view key, std::string_view expected, const Value& found) const {
  static constexpr std::string_view kKinds[] = {
      "an unsigned integer", "a signed integer", "a float", "a bool", "a string", "an array of strings"};
  std::string kind;
  if (const auto* array = std::get_if<NumberArray>(&found)) {
    kind = "an array of " + std::string(kTypeNames[static_cast<std::size_t>(array->type)]);
  } else {
    kind = kKinds[found.index()];
  }
  throw CheckpointError(file_, log_safe(key), std::string(expected), kind);
}

bool ParsedMetadata::has(std::string_view key) const { return find(key) != nullptr; }

std::optional<std::string> ParsedMetadata::string(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  wrong_type(key, "a string", *value);
}

std::optional<std::int64_t> ParsedMetadata::integer(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<std::int64_t>(value)) return *number;
  if (const auto* number = std::get_if<std::uint64_t>(value)) {
    if (*number > kMaxInteger) {
      throw CheckpointError(file_, log_safe(key), "an integer below 2^63", std::to_string(*number));
    }
    return static_cast<std::int64_t>(*number);
  }
  wrong_type(key, "an integer", *value);
}

std::optional<double> ParsedMetadata::number(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  if (const auto* number = std::get_if<std::int64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<std::uint64_t>(value)) return static_cast<double>(*number);
  wrong_type(key, "a number", *value);
}

std::optional<bool> ParsedMetadata::boolean(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  wrong_type(key, "a bool", *value);
}

const std::vector<std::string>* ParsedMetadata::strings(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* texts = std::get_if<std::vector<std::string>>(value)) return texts;
  wrong_type(key, "an array of strings", *value);
}

std::optional<std::vector<std::int64_t>> ParsedMetadata::integers(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (std::holds_alternative<std::uint64_t>(*value) || std::holds_alternative<std::int64_t>(*value)) {
    return std::vector<std::int64_t>{*integer(key)};
  }
  const auto* array = std::get_if<NumberArray>(value);
  if (array == nullptr || is_float(array->type)) wrong_type(key, "an array of integers", *value);
  std::vector<std::int64_t> out(array->count);
  for (std::size_t i = 0; i < array->count; ++i) {
    out[i] = with_element(array->type, array->bytes.data() + i * number_bytes(array->type), [&](auto number) {
      if constexpr (std::is_same_v<decltype(number), std::uint64_t>) {
        if (number > kMaxInteger) {
          throw CheckpointError(file_, log_safe(key), "integers below 2^63", std::to_string(number));
        }
      }
      return static_cast<std::int64_t>(number);
    });
  }
  return out;
}

std::optional<std::vector<float>> ParsedMetadata::floats(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<NumberArray>(value);
  if (array == nullptr || !is_float(array->type)) wrong_type(key, "an array of floats", *value);
  std::vector<float> out(array->count);
  for (std::size_t i = 0; i < array->count; ++i) {
    out[i] = with_element(array->type, array->bytes.data() + i * number_bytes(array->type),
                          [](auto number) { return static_cast<float>(number); });
  }
  return out;
}

std::vector<std::string> ParsedMetadata::keys() const {
  std::vector<std::string> out;
  out.reserve(values_.size());
  for (const auto& [key, value] : values_) out.push_back(key);
  return out;
}

}  // namespace inferd
