// Python's str(), repr() and json.dumps() of values.
#pragma once

#include <optional>
#include <string>

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

/// repr() of a float: the shortest digits that read back, "1.0", "1e-05", "inf".
std::string python_float(double value);

/// Appends str(value).
void append_string(Interpreter& interpreter, const Value& value, Text* out);
/// Appends repr(value), which differs for strings and inside containers.
void append_repr(Interpreter& interpreter, const Value& value, Text* out, int depth = 0);

struct JsonStyle {
  std::optional<std::string> indent;  // per level; none: one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ascii_only = false;
  bool sort_keys = false;
};

/// json.dumps(value). Text of strings keeps its origin, punctuation is trusted.
void append_json(Interpreter& interpreter, const Value& value, const JsonStyle& style, Text* out);

}  // namespace inferd::jinja
