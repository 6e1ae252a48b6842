// Patterns: regular expressions of JSON schemas as expressions of a grammar.
#pragma once

#include <stdexcept>
#include <string_view>

#include "engine/grammar/grammar.h"

namespace inferd {

/// What of a pattern is wrong or not supported.
class PatternError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How a string is written.
enum class StringForm {
  json,                 // between quotes, with escapes
  json_without_angles,  // likewise, "<" by an escape too
  bare,                 // as it is, but "<" only where a pattern names it
};

/// The strings that `pattern` finds something in, without quotes. Known are: characters, ".", classes, \d \D \w \W \s
/// \S, groups, "|", * + ? {m,n} (also lazy), ^ at the beginning and $ at the end of alternatives. Throws PatternError.
GrammarExpr pattern_text(GrammarBuilder& builder, std::string_view pattern, StringForm form);

/// The pattern of a format of strings that can be enforced; empty for others.
std::string_view format_pattern(std::string_view format);

}  // namespace inferd
