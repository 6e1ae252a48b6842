// Fields: reads the members of a request's JSON object with types, ranges and the name of the bad one.
#include "server/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "server/api_error.h"

namespace inferd {
namespace {

/// The text may be JSON, but is more of it than JsonLimits allow.
bool is_over_limit(const JsonError& error) {
  const std::string_view what = error.what();
  return what.starts_with("JSON nested deeper than ") || what.starts_with("JSON with more than ");
}

std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return std::to_string(static_cast<std::int64_t>(value));
  std::string text = std::to_string(value);
  while (text.back() == '0') text.pop_back();
  return text;
}

}  // namespace

ApiError wrong_type(const std::string& param, const std::string& expected, const Json& found) {
  ApiError error = invalid_value(param, "Invalid type for '" + param + "': expected " + expected + ", but got " +
                                            json_type_name(found) + " instead.");
  error.code = "invalid_type";
  return error;
}

std::string json_type_name(const Json& value) {
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_array()) return "an array";
  if (value.is_object()) return "an object";
  return "null";
}

Json parse_body(std::string_view body) {
  Json json;
  try {
    json = parse_json(body, {.unique_keys = true});
  } catch (const JsonError& error) {
    ApiError refusal(400, "invalid_request_error", "", "",
                     std::string("We could not parse the JSON body of your request: ") + error.what() + ".");
    if (is_over_limit(error)) refusal.limit = "json";
    throw refusal;
  }
  if (!json.is_object()) {
    throw ApiError(400, "invalid_request_error", "", "",
                   "The body of your request must be a JSON object, but is " + json_type_name(json) + ".");
  }
  return json;
}

const Json* Fields::find(std::string_view name) {
  known_.push_back(name);
  const auto it = object_.find(std::string(name));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<double> Fields::number(std::string_view name, double min, double max) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) throw wrong_type(param(name), "a number", *value);
  const double number = value->get<double>();
  if (!(number >= min && number <= max)) {
    const bool below = number < min;
    ApiError error = invalid_value(param(name), "Invalid '" + param(name) + "': expected a number " +
                                                    (below ? ">= " : "<= ") + number_text(below ? min : max) +
                                                    ", but got " + number_text(number) + " instead.");
    error.code = below ? "decimal_below_min_value" : "decimal_above_max_value";
    throw error;
  }
  return number;
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t min, std::int64_t max) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  std::int64_t number = 0;
  if (value->is_number_unsigned() &&
      value->get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw invalid_value(param(name), "Invalid '" + param(name) + "': the integer does not fit into 64 bits.");
  }
  if (value->is_number_integer()) {
    number = value->get<std::int64_t>();
  } else if (value->is_number_float() && value->get<double>() == std::floor(value->get<double>()) &&
             std::abs(value->get<double>()) < 9e15) {
    number = static_cast<std::int64_t>(value->get<double>());  // 16.0, as some JavaScript clients send it
  } else {
    throw wrong_type(param(name), "an integer", *value);
  }
  if (number < min || number > max) {
    const bool below = number < min;
    ApiError error = invalid_value(
        param(name), "Invalid '" + param(name) + "': integer " + (below ? "below minimum" : "above maximum") +
                         " value. Expected a value " + (below ? ">= " : "<= ") + std::to_string(below ? min : max) +
                         ", but got " + std::to_string(number) + " instead.");
    error.code = below ? "integer_below_min_value" : "integer_above_max_value";
    if (!below) error.limit = name;
    throw error;
  }
  return number;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw wrong_type(param(name), "a boolean", *value);
  return value->get<bool>();
}

std::optional<std::string> Fields::text(std::string_view name, std::size_t max_bytes) {
  const Json* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw wrong_type(param(name), "a string", *value);
  const std::string& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    throw invalid_value(param(name), "Invalid '" + param(name) + "': expected at most " + std::to_string(max_bytes) +
                                         " bytes, but got " + std::to_string(text.size()) + ".");
  }
  return text;
}

const Json* Fields::array(std::string_view name, std::size_t max_items, std::string_view limit) {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) throw wrong_type(param(name), "an array", *value);
  if (value->size() > max_items) {
    ApiError error = invalid_value(param(name), "Invalid '" + param(name) + "': array too long. Expected at most " +
                                                    std::to_string(max_items) + " entries, but got " +
                                                    std::to_string(value->size()) + ".");
    error.code = "array_above_max_length";
    error.limit = limit.empty() ? name : limit;
    throw error;
  }
  return value;
}

const Json* Fields::object(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) throw wrong_type(param(name), "an object", *value);
  return value;
}

bool Fields::ignore(std::string_view name) { return find(name) != nullptr; }

std::vector<std::string> Fields::unknown() const {
  constexpr std::size_t kMost = 20;
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end() && names.size() < kMost) names.push_back(name);
  }
  return names;
}

}  // namespace inferd
