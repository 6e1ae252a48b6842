// Checked access to JSON members.
#include "engine/weights/json_fields.h"

#include <cmath>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

std::string range_text(std::int64_t low, std::int64_t high) {
  return "an integer from " + std::to_string(low) + " to " + std::to_string(high);
}

std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

/// A value as it may stand in an error: short and safe.
std::string value_text(const Json& value) {
  return value.is_structured() ? std::string(value.type_name()) : log_safe(dump_json(value));
}

}  // namespace

JsonFields::JsonFields(const Json& object, std::string file, std::string prefix)
    : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {
  if (!object_.is_object())
    throw CheckpointError(file_, prefix_.empty() ? "top level" : prefix_, "an object", value_text(object_));
}

const Json* JsonFields::find(std::string_view name) const {
  const auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const Json* JsonFields::find_any(Names names, std::string_view* found) const {
  for (std::string_view name : names) {
    if (const Json* value = find(name)) {
      *found = name;
      return value;
    }
  }
  return nullptr;
}

void JsonFields::fail(std::string_view name, const std::string& expected, const std::string& found) const {
  throw CheckpointError(file_, prefix_ + std::string(name), expected, found);
}

void JsonFields::missing(Names names) const { fail(*names.begin(), "a value", "none"); }

std::int64_t JsonFields::checked(const Json& value, std::string_view name, std::int64_t low, std::int64_t high) const {
  // 32768.0 is an integer too: some tools write floats where integers are meant.
  bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  std::int64_t number = fits ? value.get<std::int64_t>() : 0;
  if (value.is_number_float()) {
    const double real = value.get<double>();
    fits = std::trunc(real) == real && std::abs(real) < 0x1p53;
    if (fits) number = static_cast<std::int64_t>(real);
  }
  if (!fits || number < low || number > high) fail(name, range_text(low, high), value_text(value));
  return number;
}

std::optional<std::int64_t> JsonFields::integer(Names names, std::int64_t low, std::int64_t high) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return std::nullopt;
  return checked(*value, name, low, high);
}

std::int64_t JsonFields::require_integer(Names names, std::int64_t low, std::int64_t high) const {
  const auto value = integer(names, low, high);
  if (!value) missing(names);
  return *value;
}

std::optional<double> JsonFields::number(Names names, double low, double high) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!(number >= low && number <= high)) {
    fail(name, "a number from " + decimal(low) + " to " + decimal(high), value_text(*value));
  }
  return number;
}

double JsonFields::require_number(Names names, double low, double high) const {
  const auto value = number(names, low, high);
  if (!value) missing(names);
  return *value;
}

std::optional<bool> JsonFields::boolean(Names names) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(name, "true or false", value_text(*value));
  return value->get<bool>();
}

std::optional<std::string> JsonFields::string(Names names) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(name, "a string", value_text(*value));
  return value->get<std::string>();
}

std::optional<std::vector<float>> JsonFields::floats(Names names) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) fail(name, "a list of numbers", value_text(*value));
  std::vector<float> out;
  for (const Json& item : *value) {
    if (!item.is_number()) fail(name, "a list of numbers", "a list with " + value_text(item));
    out.push_back(item.get<float>());
  }
  return out;
}

std::vector<std::int64_t> JsonFields::integers(Names names, std::int64_t low, std::int64_t high) const {
  std::string_view name;
  const Json* value = find_any(names, &name);
  if (value == nullptr) return {};
  if (!value->is_array()) return {checked(*value, name, low, high)};
  if (value->size() > 1024) fail(name, "at most 1024 integers", std::to_string(value->size()));
  std::vector<std::int64_t> out;
  for (const Json& item : *value) out.push_back(checked(item, name, low, high));
  return out;
}

const Json* JsonFields::object(std::string_view name) const {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) fail(name, "an object", value_text(*value));
  return value;
}

}  // namespace inferd
