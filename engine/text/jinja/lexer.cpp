// The lexer: states for text, tags, comments and raw blocks.
#include "engine/text/jinja/lexer.h"

#include <array>
#include <optional>

#include "base/utf8.h"
#include "engine/text/jinja/limits.h"

namespace inferd::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f'); }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_text();
    push(TokenType::end, {});
    return std::move(tokens_);
  }

 private:
  bool starts(std::string_view text, std::size_t at) const { return source_.substr(at, text.size()) == text; }
  bool starts(std::string_view text) const { return starts(text, at_); }
  std::size_t skip_spaces(std::size_t at) const {
    while (at < source_.size() && is_space(source_[at])) ++at;
    return at;
  }
  void push(TokenType type, std::string_view text) {
    if (tokens_.size() >= kMaxTokens) throw SyntaxError("the template has more than 100000 tokens", line_);
    tokens_.push_back({type, line_, text});
  }
  /// Moves to `end`, counting lines.
  void advance(std::size_t end) {
    for (; at_ < end; ++at_) line_ += source_[at_] == '\n';
    line_starting_ = end > 0 && source_[end - 1] == '\n';
  }

  void lex_text();
  void push_text(std::size_t end, char sign, bool variable);
  void lex_comment();
  bool lex_raw(std::size_t tag);
  void lex_tag(bool variable);
  std::optional<std::size_t> tag_end(bool variable) const;
  void lex_token();
  void lex_string();
  void lex_number();
  void lex_operator();
  std::size_t digits(std::size_t at) const;

  std::string_view source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::string open_brackets_;
  std::vector<Token> tokens_;
};

void Lexer::lex_text() {
  std::size_t tag = at_;
  while (true) {
    tag = source_.find('{', tag);
    if (tag == std::string_view::npos || tag + 1 >= source_.size()) {
      push(TokenType::data, source_.substr(at_));
      advance(source_.size());
      return;
    }
    const char second = source_[tag + 1];
    if (second == '{' || second == '%' || second == '#') break;
    ++tag;
  }
  const bool variable = source_[tag + 1] == '{';
  const char after = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
  const char sign = after == '-' || after == '+' ? after : '\0';
  push_text(tag, sign, variable);
  if (source_[tag + 1] == '#') return lex_comment();
  if (!variable && lex_raw(tag)) return;
  push(variable ? TokenType::variable_begin : TokenType::block_begin, source_.substr(tag, 2));
  advance(tag + 2 + (sign != '\0'));
  lex_tag(variable);
}

/// Text up to the tag at `end`, cut as its sign or lstrip_blocks says. Leaves at_ at the tag.
void Lexer::push_text(std::size_t end, char sign, bool variable) {
  std::size_t stop = end;
  if (sign == '-') {
    while (stop > at_ && is_space(source_[stop - 1])) --stop;
  } else if (sign != '+' && !variable) {
    std::size_t line_begin = end;
    while (line_begin > at_ && source_[line_begin - 1] != '\n') --line_begin;
    if ((line_begin > at_ || line_starting_) && skip_spaces(line_begin) >= end) stop = line_begin;
  }
  if (stop > at_) push(TokenType::data, source_.substr(at_, stop - at_));
  advance(end);
}

void Lexer::lex_comment() {
  const std::size_t close = source_.find("#}", at_ + 2);
  if (close == std::string_view::npos) throw SyntaxError("missing end of comment tag", line_);
  std::size_t end = close + 2;
  // "{#-#}" has one sign, which opens; a closing sign needs a place of its own.
  const char sign = source_[close - 1];
  const bool own = close - 1 >= at_ + 2 + (starts("{#-") || starts("{#+"));
  if (own && sign == '-') {
    end = skip_spaces(end);
  } else if (!(own && sign == '+') && end < source_.size() && source_[end] == '\n') {
    ++end;
  }
  advance(end);
}

/// If a raw tag opens at `tag`: pushes what it holds and moves behind its end.
bool Lexer::lex_raw(std::size_t tag) {
  std::size_t at = tag + 2;
  if (starts("-", at) || starts("+", at)) ++at;
  at = skip_spaces(at);
  if (!starts("raw", at)) return false;
  at = skip_spaces(at + 3);
  if (starts("-%}", at)) {
    at = skip_spaces(at + 3);
  } else if (starts("%}", at)) {
    at += 2;
  } else {
    return false;
  }
  advance(at);
  for (std::size_t close = source_.find("{%", at_); close != std::string_view::npos;
       close = source_.find("{%", close + 1)) {
    std::size_t end = close + 2;
    const char sign = starts("-", end) || starts("+", end) ? source_[end] : '\0';
    end = skip_spaces(end + (sign != '\0'));
    if (!starts("endraw", end)) continue;
    end = skip_spaces(end + 6);
    std::size_t after = 0;
    if (starts("-%}", end))
      after = skip_spaces(end + 3);
    else if (starts("+%}", end))
      after = end + 3;
    else if (starts("%}", end))
      after = end + 2 + starts("\n", end + 2);
    else
      continue;
    push_text(close, sign, false);
    advance(after);
    return true;
  }
  throw SyntaxError("missing end of raw directive", line_);
}

/// Where text goes on if the tag ends here. Inside brackets "}}" is two operators.
std::optional<std::size_t> Lexer::tag_end(bool variable) const {
  if (!open_brackets_.empty()) return std::nullopt;
  const std::string_view close = variable ? "}}" : "%}";
  if (starts("-") && starts(close, at_ + 1)) return skip_spaces(at_ + 3);
  if (!variable && starts("+") && starts(close, at_ + 1)) return at_ + 3;
  if (!starts(close)) return std::nullopt;
  return at_ + 2 + (!variable && starts("\n", at_ + 2));
}

void Lexer::lex_tag(bool variable) {
  while (at_ < source_.size()) {
    if (const auto end = tag_end(variable)) {
      push(variable ? TokenType::variable_end : TokenType::block_end, source_.substr(at_, 2));
      return advance(*end);
    }
    if (is_space(source_[at_])) {
      advance(skip_spaces(at_));
    } else {
      lex_token();
    }
  }
  throw SyntaxError("unexpected end of template inside a tag", line_);
}

void Lexer::lex_token() {
  const char c = source_[at_];
  if (is_digit(c)) return lex_number();
  if (c == '\'' || c == '"') return lex_string();
  if (!is_name_start(c)) return lex_operator();
  std::size_t end = at_;
  while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
  push(TokenType::name, source_.substr(at_, end - at_));
  advance(end);
}

void Lexer::lex_string() {
  const char quote = source_[at_];
  for (std::size_t end = at_ + 1; end < source_.size(); ++end) {
    if (source_[end] == '\\') {
      ++end;
    } else if (source_[end] == quote) {
      push(TokenType::string, source_.substr(at_, end + 1 - at_));
      return advance(end + 1);
    }
  }
  throw SyntaxError("a string has no end", line_);
}

/// End of digits with single underscores between them, from `at`; `at` itself if there are none.
std::size_t Lexer::digits(std::size_t at) const {
  std::size_t end = at;
  while (end < source_.size() && (is_digit(source_[end]) || (source_[end] == '_' && end > at &&
                                                             end + 1 < source_.size() && is_digit(source_[end + 1])))) {
    ++end;
  }
  return end;
}

void Lexer::lex_number() {
  std::size_t end = digits(at_);
  bool real = false;
  if (end - at_ == 1 && source_[at_] == '0' && end < source_.size()) {
    const char base = static_cast<char>(source_[end] | 0x20);
    if (base == 'x' || base == 'o' || base == 'b') throw SyntaxError("only decimal numbers are supported", line_);
  }
  // "x.0.1" reads item 0, then item 1: a number after a dot has no fraction.
  const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
  if (!after_dot && end < source_.size() && source_[end] == '.' && digits(end + 1) > end + 1) {
    end = digits(end + 1);
    real = true;
  }
  if (!after_dot && end < source_.size() && (source_[end] | 0x20) == 'e') {
    std::size_t exponent = end + 1;
    if (starts("+", exponent) || starts("-", exponent)) ++exponent;
    if (digits(exponent) > exponent) {
      end = digits(exponent);
      real = true;
    }
  }
  push(real ? TokenType::real : TokenType::integer, source_.substr(at_, end - at_));
  advance(end);
}

void Lexer::lex_operator() {
  constexpr std::array<std::string_view, 6> kDouble = {"//", "**", "==", "!=", ">=", "<="};
  std::size_t length = 1;
  for (const std::string_view op : kDouble) {
    if (starts(op)) length = 2;
  }
  const char c = source_[at_];
  if (length == 1 && std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
    throw SyntaxError("unexpected character '" + std::string(1, c) + "'", line_);
  }
  if (c == '(' || c == '[' || c == '{') {
    open_brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
  } else if (c == ')' || c == ']' || c == '}') {
    if (open_brackets_.empty() || open_brackets_.back() != c) {
      throw SyntaxError("unexpected '" + std::string(1, c) + "'", line_);
    }
    open_brackets_.pop_back();
  }
  push(TokenType::op, source_.substr(at_, length));
  advance(at_ + length);
}

/// Value of `count` hex digits at *at, or nullopt.
std::optional<char32_t> hex_digits(std::string_view text, std::size_t at, std::size_t count) {
  if (count > text.size() || at > text.size() - count) return std::nullopt;
  char32_t value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    const char c = text[i];
    const char lower = static_cast<char>(c | 0x20);
    if (!is_digit(c) && !(lower >= 'a' && lower <= 'f')) return std::nullopt;
    value = value * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
  }
  return value;
}

/// Appends the character of the \x, \u or \U escape whose letter stands at *at, and moves behind it.
void unescape_hex(std::string_view body, std::size_t* at, int line, std::string* out) {
  const std::size_t count = body[*at] == 'x' ? 2 : body[*at] == 'u' ? 4 : 8;
  auto value = hex_digits(body, *at + 1, count);
  if (!value || *value > 0x10ffff)
    throw SyntaxError("a string has a malformed \\" + std::string(1, body[*at]) + " escape", line);
  *at += 1 + count;
  if (*value >= 0xd800 && *value < 0xdc00 && body.substr(*at, 2) == "\\u") {
    const auto low = hex_digits(body, *at + 2, 4);
    if (low && *low >= 0xdc00 && *low < 0xe000) {
      value = 0x10000 + ((*value - 0xd800) << 10) + (*low - 0xdc00);
      *at += 6;
    }
  }
  append_utf8(out, *value >= 0xd800 && *value < 0xe000 ? 0xfffd : *value);
}

}  // namespace

std::string normalise_source(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text.push_back(source[i]);
      continue;
    }
    text.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

std::string unescape_string(const Token& token) {
  const std::string_view body = token.text.substr(1, token.text.size() - 2);
  constexpr std::string_view kLetters = "ntrabfv\\'\"";
  constexpr std::string_view kMeant = "\n\t\r\a\b\f\v\\'\"";
  std::string out;
  for (std::size_t i = 0; i < body.size();) {
    if (body[i] != '\\') {
      out.push_back(body[i++]);
      continue;
    }
    const char c = body[++i];  // the lexer saw a character behind every backslash
    const std::size_t known = kLetters.find(c);
    if (known != std::string_view::npos) {
      out.push_back(kMeant[known]);
      ++i;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      unescape_hex(body, &i, token.line, &out);
    } else if (c >= '0' && c <= '7') {
      char32_t value = 0;
      for (int count = 0; count < 3 && i < body.size() && body[i] >= '0' && body[i] <= '7'; ++count) {
        value = value * 8 + static_cast<char32_t>(body[i++] - '0');
      }
      append_utf8(&out, value);
    } else if (c == '\n') {
      ++i;
    } else {
      out.push_back('\\');
      out.push_back(c);
      ++i;
    }
  }
  return out;
}

}  // namespace inferd::jinja
