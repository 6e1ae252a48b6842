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
  Lexer(std::string_view text, int first_line, bool outline) : text_(text), line_(first_line), outline_(outline) {}

  std::vector<Token> run() {
    bool entry = false;  // a body comes
    while (skip_blanks()) {
      if (outline_ && entry && text_[pos_] == '{') {
        tokens_.push_back(body());
        entry = false;
      } else {
        tokens_.push_back(token());
        entry |= tokens_.back().is(".entry");
      }
    }
    tokens_.push_back({Token::Kind::end, {}, line_});
    return std::move(tokens_);
  }

 private:
  Token token() {
    const size_t start = pos_;
    if (text_[pos_] == '"') {
      skip_string();
      return {Token::Kind::string, text_.substr(start + 1, pos_ - start - 2), line_};
    }
    if (!is_word_char(text_[pos_])) {
      ++pos_;
      return {Token::Kind::punctuation, text_.substr(start, 1), line_};
    }
    while (pos_ < text_.size() && (is_word_char(text_[pos_]) || at_scope())) pos_ += at_scope() ? 2 : 1;
    return {Token::Kind::word, text_.substr(start, pos_ - start), line_};
  }

  // Finds the closing brace; looks at nothing else but shared variables.
  Token body() {
    const size_t start = pos_;
    const int line = line_;
    int depth = 0;
    while (pos_ < text_.size()) {
      const char c = text_[pos_];
      if (c == '"') {
        skip_string();
      } else if (c == '/' || c == '\n') {
        pos_ += c == '/' && !at_comment();
        skip_blanks();
      } else if (c == '.' && at_shared_variable()) {
        while (skip_blanks() && text_[pos_] != ';') tokens_.push_back(token());
      } else {
        ++pos_;
        depth += c == '{' ? 1 : c == '}' ? -1 : 0;
        if (depth == 0) return {Token::Kind::body, text_.substr(start, pos_ - start), line};
      }
    }
    fail("the body of a kernel is not closed");
  }

  void skip_string() {
    const size_t close = text_.find('"', pos_ + 1);
    if (close == std::string_view::npos) fail("a string is not closed");
    pos_ = close + 1;
  }

  bool at_comment() const { return text_.compare(pos_, 2, "//") == 0 || text_.compare(pos_, 2, "/*") == 0; }
  // The word .shared alone, not as a part of ld.shared.
  bool at_shared_variable() const {
    constexpr std::string_view kWord = ".shared";
    const size_t end = pos_ + kWord.size();
    return text_.compare(pos_, kWord.size(), kWord) == 0 && !is_word_char(text_[pos_ - 1]) && end < text_.size() &&
           !is_word_char(text_[end]) && text_[end] != ':';
  }
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
  int line_;
  bool outline_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text, int first_line) { return Lexer(text, first_line, false).run(); }
std::vector<Token> tokenize_outline(std::string_view text) { return Lexer(text, 1, true).run(); }

}  // namespace inferd::ptxsim
