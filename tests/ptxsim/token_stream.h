// A cursor over the tokens of a PTX text, with the errors a parser throws.
#pragma once
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/ptxsim/lexer.h"
#include "tests/ptxsim/types.h"

namespace inferd::ptxsim {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(pos_ + ahead, tokens_.size() - 1)]; }
  Token next() {
    Token token = peek();
    if (token.kind == Token::Kind::end) fail("the text ends too early");
    ++pos_;
    return token;
  }
  bool at_end() const { return peek().kind == Token::Kind::end; }
  bool accept(std::string_view text) {
    if (!peek().is(text)) return false;
    ++pos_;
    return true;
  }
  void expect(std::string_view text) {
    if (!accept(text)) fail("expected '" + std::string(text) + "', found '" + std::string(peek().text) + "'");
  }
  std::string word() {
    if (peek().kind != Token::Kind::word) fail("expected a name, found '" + std::string(peek().text) + "'");
    return std::string(next().text);
  }
  /// A decimal, octal or hexadecimal integer, perhaps negative.
  int64_t integer() {
    const bool negative = accept("-");
    const std::string text = word();
    char* end = nullptr;
    const uint64_t value = std::strtoull(text.c_str(), &end, 0);
    if (end == text.c_str() || (*end != '\0' && *end != 'U')) fail("'" + text + "' is not a number");
    return int64_t(negative ? 0 - value : value);
  }
  void skip_line() {
    for (const int line = peek().line; !at_end() && peek().line == line;) ++pos_;
  }
  /// Skips from an opening brace to behind its closing one.
  void skip_braces() {
    expect("{");
    for (int depth = 1; depth > 0;) {
      const Token token = next();
      depth += token.is("{") ? 1 : token.is("}") ? -1 : 0;
    }
  }
  size_t position() const { return pos_; }
  void seek(size_t position) { pos_ = position; }

  [[noreturn]] void fail(const std::string& what) const {
    throw ParseError("ptx line " + std::to_string(peek().line) + ": " + what);
  }

 private:
  std::vector<Token> tokens_;
  size_t pos_ = 0;
};

/// `.align N .type name[n][m]` behind a state space; sizes in bytes. An array without a size has `bytes` 0.
struct Declaration {
  std::string name;
  Type type = Type::none;
  size_t align = 0, bytes = 0;
};
Declaration parse_declaration(TokenStream& in);

constexpr size_t align_up(size_t n, size_t align) { return (n + align - 1) / align * align; }

}  // namespace inferd::ptxsim
