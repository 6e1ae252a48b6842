// A reader of Python literals: strings, numbers, constants, lists, tuples, dictionaries.
#include "server/tool_formats/python_arguments.h"

#include <algorithm>

#include "base/json.h"
#include "server/tool_schemas.h"

namespace inferd {
namespace {

constexpr int kMaxDepth = 32;

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  PythonArguments arguments() {
    PythonArguments result;
    result.json = "{";
    for (bool more = !next_is(')'); more && !failed_; more = list_goes_on(')')) {
      if (result.json.size() > 1) result.json += ',';
      const std::string name = word();
      expect('=');
      result.json += "\"" + name + "\":";
      if (name.empty()) fail();
      value(result.json, 0);
    }
    expect(')');
    result.json += '}';
    result.end = at_;
    result.status = !failed_   ? PythonArguments::Status::whole
                    : ran_out_ ? PythonArguments::Status::unfinished
                               : PythonArguments::Status::bad;
    return result;
  }

 private:
  /// The next byte; NUL, and failed, at the end of the text.
  char peek() {
    if (at_ < text_.size()) return text_[at_];
    if (!failed_) ran_out_ = true;
    failed_ = true;
    return '\0';
  }
  void fail() { failed_ = true; }
  char peek_after_space() {
    at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
    return peek();
  }
  bool next_is(char c) { return peek_after_space() == c; }
  void expect(char c) {
    if (!next_is(c)) return fail();
    ++at_;
  }
  /// After an item: takes a comma. False before `close`.
  bool list_goes_on(char close) {
    if (next_is(close)) return false;
    expect(',');
    return !next_is(close);
  }
  std::string word() {
    peek_after_space();
    std::string out;
    while (is_word_byte(peek())) out += text_[at_++];
    return out;
  }

  void value(std::string& out, int depth) {
    const char c = peek_after_space();
    if (failed_ || depth > kMaxDepth) return fail();
    if (c == '\'' || c == '"') return string(out);
    if (c == '[' || c == '(') return list(out, c == '[' ? ']' : ')', depth);
    if (c == '{') return dictionary(out, depth);
    if ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.') return number(out);
    const std::string name = word();
    if (name == "True" || name == "true") {
      out += "true";
    } else if (name == "False" || name == "false") {
      out += "false";
    } else if (name == "None" || name == "null") {
      out += "null";
    } else {
      fail();
    }
  }

  void list(std::string& out, char close, int depth) {
    ++at_;
    out += '[';
    for (bool more = !next_is(close), first = true; more && !failed_; more = list_goes_on(close), first = false) {
      if (!first) out += ',';
      value(out, depth + 1);
    }
    expect(close);
    out += ']';
  }

  void dictionary(std::string& out, int depth) {
    ++at_;
    out += '{';
    for (bool more = !next_is('}'), first = true; more && !failed_; more = list_goes_on('}'), first = false) {
      if (!first) out += ',';
      const char quote = peek_after_space();
      if (quote != '\'' && quote != '"') return fail();
      string(out);
      expect(':');
      out += ':';
      value(out, depth + 1);
    }
    expect('}');
    out += '}';
  }

  void number(std::string& out) {
    std::string digits;
    for (char c = peek(); is_word_byte(c) || c == '-' || c == '+' || c == '.'; c = peek()) {
      if (c != '_') digits += c;
      ++at_;
    }
    if (failed_) return;
    try {
      out += dump_json(parse_json(digits));
    } catch (const JsonError&) {
      fail();
    }
  }

  void string(std::string& out) {
    const char quote = text_[at_];
    const std::string three(3, quote);
    const std::string_view rest = text_.substr(at_);
    // Two quotes at the end of what is there may be an empty string, or two of three.
    if (rest.size() < 3 && three.starts_with(rest)) {
      at_ = text_.size();
      peek();
      return;
    }
    const std::string_view end = rest.starts_with(three) ? std::string_view(three) : std::string_view(&quote, 1);
    at_ += end.size();
    out += '"';
    while (!text_.substr(std::min(at_, text_.size())).starts_with(end)) {
      if (peek() == '\\') {
        ++at_;
        escape(out);
      } else if (!failed_) {
        out += json_escaped(text_.substr(at_++, 1));
      }
      if (failed_) return;
    }
    at_ += end.size();
    out += '"';
  }

  /// What follows a backslash.
  void escape(std::string& out) {
    const char c = peek();
    if (failed_) return;
    ++at_;
    if (c == 'x' || c == 'u') return hex(out, c == 'x' ? 2 : 4);
    constexpr std::string_view kNames = "nrtbfv0", kBytes("\n\r\t\b\f\v\0", 7);
    if (c == '\n') return;  // a line that goes on
    if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
      out += json_escaped(kBytes.substr(i, 1));
    } else if (c == '\'' || c == '"' || c == '\\') {
      out += json_escaped({&c, 1});
    } else {
      out += "\\\\" + json_escaped({&c, 1});  // no escape in Python either
    }
  }

  void hex(std::string& out, std::size_t digits) {
    std::string code;
    while (code.size() < digits) {
      const char c = peek();
      if (std::string_view("0123456789abcdefABCDEF").find(c) == std::string_view::npos || failed_) return fail();
      code += c;
      ++at_;
    }
    out += "\\u" + std::string(4 - digits, '0') + code;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
  bool failed_ = false;
  bool ran_out_ = false;  // it failed at the end of the text: more could have helped
};

}  // namespace

PythonArguments read_python_arguments(std::string_view text) { return Reader(text).arguments(); }

}  // namespace inferd
