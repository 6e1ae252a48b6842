// The PTX lexer.
#include "tests/ptxsim/lexer.h"

#include <string>

#include "tests/ptxsim/types.h"

namespace inferd::ptxsim {
namespace {

bool is_word_char(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' ||
         c == '%' || c == '.';
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    while (skip_blanks()) {
      const size_t start = pos_;
      const int line = line_;
      if (text_[pos_] == '"') {
        const size_t close = text_.find('"', pos_ + 1);
        if (close == std::string_view::npos) fail("a string is not closed");
        tokens.push_back({Token::Kind::string, text_.substr(start + 1, close - start - 1), line});
        pos_ = close + 1;
      } else if (is_word_char(text_[pos_])) {
        while (pos_ < text_.size() && (is_word_char(text_[pos_]) || at_scope())) pos_ += at_scope() ? 2 : 1;
        tokens.push_back({Token::Kind::word, text_.substr(start, pos_ - start), line});
      } else {
        ++pos_;
        tokens.push_back({Token::Kind::punctuation, text_.substr(start, 1), line});
      }
    }
    tokens.push_back({Token::Kind::end, {}, line_});
    return tokens;
  }

 private:
  bool at_scope() const { return text_.compare(pos_, 2, "::") == 0; }

  [[noreturn]] void fail(const char* what) const {
    throw ParseError("ptx line " + std::to_string(line_) + ": " + what);
  }

  // Moves to the next token; false at the end of the text.
  bool skip_blanks() {
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '\n') ++line_;
      if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\0') {
        ++pos_;
      } else if (text_.compare(pos_, 2, "//") == 0) {
        pos_ = std::min(text_.find('\n', pos_), text_.size());
      } else if (text_.compare(pos_, 2, "/*") == 0) {
        const size_t close = text_.find("*/", pos_ + 2);
        if (close == std::string_view::npos) fail("a comment is not closed");
        for (; pos_ < close + 2; ++pos_) line_ += text_[pos_] == '\n';
      } else {
        return true;
      }
    }
    return false;
  }

  std::string_view text_;
  size_t pos_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

}  // namespace inferd::ptxsim
