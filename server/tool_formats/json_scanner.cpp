// JsonScanner: a table-free state machine over RFC 8259.
#include "server/tool_formats/json_scanner.h"

#include "base/json.h"
#include "server/tool_schemas.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxLiteral = 512;  // digits of a number

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool in_literal(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || c == 'E' || c == '-' || c == '+' || c == '.';
}

}  // namespace

JsonScanner::Event JsonScanner::feed(char c) {
  last_ = c;
  copy_ = Copy::plain;
  if (in_string()) return feed_string(c);
  if (state_ == State::literal) {
    if (in_literal(c)) {
      literal_ += c;
      return literal_.size() <= kMaxLiteral ? Event::none : Event::bad;
    }
    if (!literal_ends()) return Event::bad;
  }
  if (is_space(c)) {
    copy_ = Copy::nothing;
    return Event::none;
  }
  switch (state_) {
    case State::value:
      return begin_value(c);
    case State::first_item:
      return c == ']' ? close(c) : begin_value(c);
    case State::first_key:
    case State::key:
      if (c == '}' && state_ == State::first_key) return close(c);
      if (c != '"') return Event::bad;
      begin_string(true);
      return Event::none;
    case State::colon:
      state_ = State::value;
      return c == ':' ? Event::none : Event::bad;
    case State::after:
      return feed_after(c);
    default:
      return Event::bad;
  }
}

void JsonScanner::begin_string(bool key) {
  key_ = key;
  state_ = State::string;
}

JsonScanner::Event JsonScanner::begin_value(char c) {
  if (c == '{' || c == '[') {
    if (open_.size() >= kMaxDepth) return Event::bad;
    open_ += c;
    state_ = c == '{' ? State::first_key : State::first_item;
    return Event::open;
  }
  if (open_.empty()) return Event::bad;
  if (c == '"') {
    begin_string(false);
    return Event::none;
  }
  if (!in_literal(c)) return Event::bad;
  literal_ = c;
  state_ = State::literal;
  return Event::none;
}

/// True if the number or word just read is one.
bool JsonScanner::literal_ends() {
  state_ = State::after;
  try {
    parse_json(literal_);
    return true;
  } catch (const JsonError&) {
    return false;
  }
}

JsonScanner::Event JsonScanner::feed_after(char c) {
  if (c == '}' || c == ']') return close(c);
  if (c != ',') return Event::bad;
  state_ = open_.back() == '{' ? State::key : State::value;
  return Event::none;
}

JsonScanner::Event JsonScanner::close(char c) {
  if ((c == '}') != (open_.back() == '{')) return Event::bad;
  open_.pop_back();
  state_ = open_.empty() ? State::end : State::after;
  return Event::close;
}

JsonScanner::Event JsonScanner::feed_string(char c) {
  if (state_ != State::string) return feed_escape(c);
  if (c == '\\') {
    state_ = State::escape;
    copy_ = Copy::nothing;  // until it is known what is escaped
  } else if (c == '"') {
    state_ = key_ ? State::colon : State::after;
    return key_ ? Event::key_end : Event::string_end;
  }
  return Event::none;
}

JsonScanner::Event JsonScanner::feed_escape(char c) {
  if (state_ == State::unicode) {
    if (!is_hex(c)) return Event::bad;
    if (--hex_left_ == 0) state_ = State::string;
    return Event::none;
  }
  constexpr std::string_view kEscapes = "\"\\/bfnrtu";
  copy_ = kEscapes.find(c) != std::string_view::npos ? Copy::escape : Copy::bad_escape;
  state_ = c == 'u' ? State::unicode : State::string;
  hex_left_ = 4;
  return Event::none;
}

void JsonScanner::copy(std::string& out) const {
  if (copy_ == Copy::nothing) return;
  if (copy_ == Copy::escape) out += '\\';
  if (copy_ == Copy::bad_escape) out += "\\\\";
  if (static_cast<unsigned char>(last_) < 0x20) {
    out += json_escaped({&last_, 1});
  } else {
    out += last_;
  }
}

}  // namespace inferd
