// JsonFields: typed, range-checked members of a JSON object from a model folder.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/checkpoint.h"

namespace inferd {

/// Looks members up under one of several names (dialects name the same thing differently); null counts as absent.
/// Wrong types and values out of range throw CheckpointError naming file and field. Borrows `object`.
class JsonFields {
 public:
  using Names = std::initializer_list<std::string_view>;

  /// `prefix` goes before field names in errors ("rope_scaling.").
  JsonFields(const Json& object, std::string file, std::string prefix = "");

  bool has(std::string_view name) const { return find(name) != nullptr; }
  std::optional<std::int64_t> integer(Names names, std::int64_t low, std::int64_t high) const;
  std::int64_t require_integer(Names names, std::int64_t low, std::int64_t high) const;
  /// Finite numbers only.
  std::optional<double> number(Names names, double low, double high) const;
  double require_number(Names names, double low, double high) const;
  std::optional<bool> boolean(Names names) const;
  std::optional<std::string> string(Names names) const;
  std::optional<std::vector<float>> floats(Names names) const;
  /// An integer or a list of integers.
  std::vector<std::int64_t> integers(Names names, std::int64_t low, std::int64_t high) const;
  /// The member if it is an object.
  const Json* object(std::string_view name) const;

 private:
  const Json* find(std::string_view name) const;
  const Json* find_any(Names names, std::string_view* found) const;
  [[noreturn]] void fail(std::string_view name, const std::string& expected, const std::string& found) const;
  [[noreturn]] void missing(Names names) const;
  std::int64_t checked(const Json& value, std::string_view name, std::int64_t low, std::int64_t high) const;

  const Json& object_;
  std::string file_;
  std::string prefix_;
};

}  // namespace inferd
