// Python's two ways to format strings: "…{}…".format(…) and "…%s…" % ….
#pragma once

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

/// pattern.format(arguments)
Value format_braces(Interpreter& interpreter, const Value& pattern, const Arguments& arguments);
/// pattern % value
Value format_percent(Interpreter& interpreter, const Value& pattern, const Value& value);

}  // namespace inferd::jinja
