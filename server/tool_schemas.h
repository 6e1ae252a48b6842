// ToolSchemas: what a request's tools say of their arguments' types, for formats that write values as plain text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/json.h"

namespace inferd {

/// Types that a JSON schema allows, as bits.
enum class ArgumentType : std::uint8_t {
  text = 1,
  integer = 2,
  number = 4,
  boolean = 8,
  null = 16,
  object = 32,
  array = 64
};

/// A set of ArgumentTypes; empty where the schema says nothing.
using ArgumentTypes = std::uint8_t;

constexpr bool only_text(ArgumentTypes types) { return types == static_cast<ArgumentTypes>(ArgumentType::text); }

/// Immutable, copied into each answer.
class ToolSchemas {
 public:
  ToolSchemas() = default;
  /// `tools`: the request's list, checked before; or null.
  explicit ToolSchemas(const Json& tools);
  bool knows(std::string_view function) const { return functions_.find(function) != functions_.end(); }
  /// True if some function's name begins with `text`.
  bool may_become_known(std::string_view text) const;
  /// The types of one argument; empty if the tools do not tell.
  ArgumentTypes types(std::string_view function, std::string_view argument) const;

 private:
  std::map<std::string, std::map<std::string, ArgumentTypes, std::less<>>, std::less<>> functions_;
};

/// The JSON of a value that the model wrote as plain text: of the first allowed type it can be read as, else a string.
std::string typed_value(std::string_view text, ArgumentTypes types);

/// `text` as it stands inside a JSON string. Bytes from 0x80 up are left alone.
std::string json_escaped(std::string_view text);

}  // namespace inferd
