// Fields: reads the members of a request's JSON object with types, ranges and the name of the bad one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace inferd {

class ApiError;

/// A view of one JSON object. Every getter treats null as absent and throws ApiError(400) naming the member; every name
/// asked for counts as known.
class Fields {
 public:
  /// `path` is what stands before the member's name in errors: "" or "messages[0].".
  Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

  const Json* find(std::string_view name);
  std::optional<double> number(std::string_view name, double min, double max);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t min, std::int64_t max);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name, std::size_t max_bytes);
  /// `limit`: the setting that holds max_items, if one does.
  const Json* array(std::string_view name, std::size_t max_items, std::string_view limit = {});
  const Json* object(std::string_view name);

  /// Marks `name` as known without using it; true if it is there and not null.
  bool ignore(std::string_view name);
  std::string param(std::string_view name) const { return path_ + std::string(name); }
  /// Members nobody asked for, at most 20.
  std::vector<std::string> unknown() const;

 private:
  const Json& object_;
  std::string path_;
  std::vector<std::string_view> known_;
};

/// "a string", "an object" …, for messages.
std::string json_type_name(const Json& value);

/// 400 with code invalid_type: `param` is not `expected` ("a string").
ApiError wrong_type(const std::string& param, const std::string& expected, const Json& found);

/// Parses a body that must be one JSON object. Throws ApiError(400).
Json parse_body(std::string_view body);

}  // namespace inferd
