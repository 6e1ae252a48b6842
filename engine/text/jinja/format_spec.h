// One field of a format: how wide, how aligned, and what kind of number.
#pragma once

#include <string>
#include <string_view>

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

struct FormatSpec {
  Text fill = Text(" ", true);  // one character
  char align = '\0';            // < > ^ =, or none
  char sign = '-';              // + - or blank
  bool alternate = false;
  char grouping = '\0';  // , or _
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

/// Parses the text behind ":" of a replacement field.
FormatSpec parse_format_spec(const Text& text);
/// Appends value formatted by spec. Throws TemplateError where Python raises.
void append_formatted(Interpreter& interpreter, const Value& value, const FormatSpec& spec, Text* out);

}  // namespace inferd::jinja
