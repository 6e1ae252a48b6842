// Parser: template source to its syntax tree.
#pragma once

#include <string_view>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/lexer.h"

namespace inferd::jinja {

/// Parses a whole template. Throws SyntaxError, also for what is refused: include, import, extends, too deep nesting.
SyntaxTree parse_template(std::string_view source);

}  // namespace inferd::jinja
