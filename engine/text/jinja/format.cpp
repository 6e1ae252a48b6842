// Patterns of str.format and of the % operator.
#include "engine/text/jinja/format.h"

#include <cmath>

#include "engine/text/jinja/format_spec.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

/// Reads "{name.attribute[key]!r:spec}" fields of one pattern.
class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, const Text& pattern, const Arguments& arguments)
      : interpreter_(interpreter), pattern_(pattern), bytes_(pattern.bytes()), arguments_(arguments) {}

  Text run() {
    Text out;
    std::size_t plain = 0;
    for (std::size_t at = 0; at < bytes_.size();) {
      const char c = bytes_[at];
      if (c != '{' && c != '}') {
        ++at;
        continue;
      }
      out.append(pattern_, plain, at);
      if (at + 1 < bytes_.size() && bytes_[at + 1] == c) {
        out.append(pattern_, at, at + 1);
        at += 2;
      } else if (c == '}') {
        throw TemplateError("single '}' encountered in format string");
      } else {
        at = append_field(at + 1, &out);
      }
      plain = at;
    }
    out.append(pattern_, plain, bytes_.size());
    return out;
  }

 private:
  /// Returns where the field ends.
  std::size_t append_field(std::size_t begin, Text* out) {
    interpreter_.budget().step();
    const std::size_t close = bytes_.find('}', begin);
    if (close == std::string::npos) throw TemplateError("expected '}' before end of string");
    const std::size_t open = bytes_.find('{', begin);
    if (open < close) throw TemplateError("nested format fields are not supported");
    std::size_t name_end = begin;
    int brackets = 0;
    while (name_end < close && (brackets > 0 || (bytes_[name_end] != '!' && bytes_[name_end] != ':'))) {
      brackets += bytes_[name_end] == '[' ? 1 : bytes_[name_end] == ']' ? -1 : 0;
      ++name_end;
    }
    Value value = field_value(std::string_view(bytes_).substr(begin, name_end - begin));
    std::size_t spec_begin = name_end;
    if (spec_begin < close && bytes_[spec_begin] == '!') {
      value = convert(value, spec_begin + 1 < close ? bytes_[spec_begin + 1] : '\0');
      spec_begin += 2;
      if (spec_begin < close && bytes_[spec_begin] != ':')
        throw TemplateError("expected ':' after conversion specifier");
    }
    const FormatSpec spec =
        spec_begin < close ? parse_format_spec(pattern_.slice(spec_begin + 1, close)) : FormatSpec();
    append_formatted(interpreter_, value, spec, out);
    return close + 1;
  }

  Value convert(const Value& value, char conversion) {
    Text text;
    if (conversion == 's')
      append_string(interpreter_, value, &text);
    else if (conversion == 'r' || conversion == 'a')
      append_repr(interpreter_, value, &text);
    else
      throw TemplateError("unknown conversion specifier");
    return interpreter_.string(std::move(text));
  }

  Value field_value(std::string_view name) {
    std::size_t at = name.find_first_of(".[");
    Value value = argument(name.substr(0, at));
    while (at < name.size()) {
      if (name[at] == '.') {
        const std::size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        value = interpreter_.get_attribute(value, name.substr(at + 1, end - at - 1));
        at = end;
      } else {
        const std::size_t end = name[at] == '[' ? name.find(']', at) : std::string_view::npos;
        if (end == std::string_view::npos) throw TemplateError("malformed field name in format string");
        const std::string_view key = name.substr(at + 1, end - at - 1);
        value =
            interpreter_.get_item(value, is_number(key) ? Value::integer(number(key)) : interpreter_.string(key, true));
        at = end + 1;
      }
    }
    return value;
  }

  Value argument(std::string_view name) {
    if (name.empty() || is_number(name)) {
      if (name.empty() ? numbered_ : next_ > 0) {
        throw TemplateError("cannot mix automatic and manual field numbering");
      }
      numbered_ |= !name.empty();
      const std::size_t index = name.empty() ? next_++ : static_cast<std::size_t>(number(name));
      if (index >= arguments_.positional.size())
        throw TemplateError("replacement index out of range for positional args tuple");
      return arguments_.positional[index];
    }
    for (const NamedArgument& named : arguments_.named) {
      if (named.name == name) return named.value;
    }
    throw TemplateError("format() misses the argument '" + std::string(name) + "'");
  }

  static bool is_number(std::string_view text) {
    return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string_view::npos;
  }
  static std::int64_t number(std::string_view text) { return std::stoll(std::string(text)); }

  Interpreter& interpreter_;
  const Text& pattern_;
  const std::string& bytes_;
  const Arguments& arguments_;
  std::size_t next_ = 0;
  bool numbered_ = false;
};

/// Reads "%(key)-08.2f" fields of one pattern.
class PercentFormatter {
 public:
  PercentFormatter(Interpreter& interpreter, const Text& pattern, const Value& value)
      : interpreter_(interpreter), pattern_(pattern), bytes_(pattern.bytes()), value_(value) {}

  Text run() {
    Text out;
    std::size_t plain = 0;
    for (at_ = bytes_.find('%'); at_ != std::string::npos; at_ = bytes_.find('%', at_)) {
      interpreter_.budget().step();
      out.append(pattern_, plain, at_);
      ++at_;
      append_field(&out);
      plain = at_;
    }
    out.append(pattern_, plain, bytes_.size());
    if (value_.kind() == Kind::tuple && used_ < value_.as_list().items.size()) {
      throw TemplateError("not all arguments converted during string formatting");
    }
    if (value_.kind() != Kind::tuple && !value_.is_dict() && used_ == 0 && !by_key_) {
      throw TemplateError("not all arguments converted during string formatting");
    }
    return out;
  }

 private:
  char peek() const {
    if (at_ >= bytes_.size()) throw TemplateError("incomplete format");
    return bytes_[at_];
  }

  void append_field(Text* out) {
    if (peek() == '%') {
      out->append(pattern_, at_, at_ + 1);
      ++at_;
      return;
    }
    Value item;
    bool keyed = false;
    if (peek() == '(') {
      const std::size_t close = bytes_.find(')', at_);
      if (close == std::string::npos) throw TemplateError("incomplete format key");
      item = keyed_value(bytes_.substr(at_ + 1, close - at_ - 1));
      at_ = close + 1;
      keyed = by_key_ = true;
    }
    FormatSpec spec = parse_flags();
    spec.type = peek();
    ++at_;
    if (!keyed) item = next_value();
    append_item(item, spec, out);
  }

  FormatSpec parse_flags() {
    FormatSpec spec;
    bool zero = false;
    for (; std::string_view("-+ 0#").find(peek()) != std::string_view::npos; ++at_) {
      if (peek() == '-') spec.align = '<';
      if (peek() == '+' || (peek() == ' ' && spec.sign != '+')) spec.sign = peek();
      if (peek() == '#') spec.alternate = true;
      zero |= peek() == '0';
    }
    spec.width = parse_number();
    if (peek() == '.') {
      ++at_;
      spec.precision = parse_number();
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    if (spec.align == '\0') {
      spec.align = zero ? '=' : '>';
      if (zero) spec.fill = Text("0", true);
    }
    return spec;
  }

  std::int64_t parse_number() {
    std::int64_t value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (bytes_[at_++] - '0');
      if (value > 1'000'000) throw TemplateError("a format is wider than 1000000");
    }
    return value;
  }

  Value next_value() {
    if (value_.kind() == Kind::tuple) {
      if (used_ >= value_.as_list().items.size()) throw TemplateError("not enough arguments for format string");
      return value_.as_list().items[used_++];
    }
    if (used_++ > 0) throw TemplateError("not enough arguments for format string");
    return value_;
  }

  Value keyed_value(const std::string& key) {
    if (!value_.is_dict()) throw TemplateError("format requires a mapping");
    const Value* found = value_.as_dict().find(std::string_view(key));
    if (found == nullptr) throw TemplateError("the format's mapping has no key '" + key + "'");
    return *found;
  }

  void append_item(const Value& item, FormatSpec spec, Text* out) {
    if (spec.type == 's' || spec.type == 'r' || spec.type == 'a') {
      Text text;
      if (spec.type == 's')
        append_string(interpreter_, item, &text);
      else
        append_repr(interpreter_, item, &text);
      if (spec.align == '=') {
        spec.align = '>';
        spec.fill = Text(" ", true);
      }
      spec.type = 's';
      return append_formatted(interpreter_, interpreter_.string(std::move(text)), spec, out);
    }
    if (!item.is_number()) {
      throw TemplateError(std::string("%") + spec.type + " format: a real number is required, not " + type_name(item));
    }
    if (spec.type == 'd' || spec.type == 'i' || spec.type == 'u') {
      spec.type = 'd';
      const double real = item.as_real();
      if (item.kind() == Kind::real && !(std::abs(real) < 9e18)) throw TemplateError("cannot convert float to integer");
      const Value whole = item.kind() == Kind::real ? Value::integer(static_cast<std::int64_t>(real), item.trusted())
                                                    : Value::integer(item.as_integer(), item.trusted());
      return append_formatted(interpreter_, whole, spec, out);
    }
    append_formatted(interpreter_, item, spec, out);
  }

  Interpreter& interpreter_;
  const Text& pattern_;
  const std::string& bytes_;
  const Value& value_;
  std::size_t at_ = 0;
  std::size_t used_ = 0;
  bool by_key_ = false;
};

}  // namespace

Value format_braces(Interpreter& interpreter, const Value& pattern, const Arguments& arguments) {
  interpreter.budget().touch(pattern.text().size());
  return interpreter.string(BraceFormatter(interpreter, pattern.text(), arguments).run(), pattern.as_string().markup);
}

Value format_percent(Interpreter& interpreter, const Value& pattern, const Value& value) {
  interpreter.budget().touch(pattern.text().size());
  return interpreter.string(PercentFormatter(interpreter, pattern.text(), value).run(), pattern.as_string().markup);
}

}  // namespace inferd::jinja
