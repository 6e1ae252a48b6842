// Lexer: splits template source into text and the tokens inside tags, and applies the whitespace rules.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace inferd::jinja {

/// A template that cannot be parsed.
class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(const std::string& message, int at_line) : std::runtime_error(message), line(at_line) {}
  const int line;
};

enum class TokenType : unsigned char {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  integer,
  real,
  string,
  op,
  end
};

struct Token {
  TokenType type = TokenType::end;
  int line = 1;
  std::string_view text;  // of the source; strings with their quotes

  bool is_op(std::string_view wanted) const { return type == TokenType::op && text == wanted; }
  bool is_name(std::string_view wanted) const { return type == TokenType::name && text == wanted; }
};

/// `source` with every line end as \n and without one at its end.
std::string normalise_source(std::string_view source);

/// Tokens of a normalised source, which must outlive them; the last is TokenType::end. trim_blocks and lstrip_blocks
/// are on. Throws SyntaxError.
std::vector<Token> tokenize(std::string_view source);

/// The text that a string token stands for.
std::string unescape_string(const Token& token);

}  // namespace inferd::jinja
