// Cuts PTX text into words, strings and punctuation, each with its line.
#pragma once
#include <string_view>
#include <vector>

namespace inferd::ptxsim {

struct Token {
  enum class Kind { word, string, punctuation, body, end };
  Kind kind = Kind::end;
  std::string_view text;  // a string's text is without its quotes
  int line = 0;           // 1-based, in the PTX text
  bool is(std::string_view t) const { return kind != Kind::string && text == t; }
};

/// Tokens of `text`, the last of kind `end`. Words hold letters, digits and `. _ $ % ::`; all else is one character
/// each. The views point into `text`, which begins at line `first_line`. Throws ParseError on an unclosed string or
/// comment.
std::vector<Token> tokenize(std::string_view text, int first_line = 1);

/// Likewise, but the body of an entry point is one token, of kind `body`, with its braces. The declarations of shared
/// variables inside come as tokens before it, once more.
std::vector<Token> tokenize_outline(std::string_view text);

}  // namespace inferd::ptxsim
