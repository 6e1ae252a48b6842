// Python's operators on values.
#pragma once

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

/// left OP right for the arithmetic kinds of expression. Throws TemplateError as Python raises.
Value binary_operation(Interpreter& interpreter, ExpressionKind kind, const Value& left, const Value& right);
/// -value or +value
Value sign_operation(ExpressionKind kind, const Value& value);

}  // namespace inferd::jinja
