// Formatting one value by a specification.
#include "engine/text/jinja/format_spec.h"

#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

constexpr std::int64_t kMaxWidth = 1'000'000;
constexpr std::int64_t kMaxPrecision = 100;

std::int64_t parse_count(std::string_view text, std::size_t* at) {
  std::int64_t value = 0;
  while (*at < text.size() && text[*at] >= '0' && text[*at] <= '9') {
    value = value * 10 + (text[(*at)++] - '0');
    if (value > kMaxWidth) throw TemplateError("a format is wider than 1000000");
  }
  return value;
}

std::string unsigned_digits(std::uint64_t value, unsigned base, bool upper) {
  std::string digits;
  do {
    const auto digit = static_cast<unsigned>(value % base);
    digits.insert(digits.begin(), static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10));
    value /= base;
  } while (value != 0);
  return digits;
}

std::string group_thousands(const std::string& digits, char separator) {
  std::size_t whole = 0;
  while (whole < digits.size() && digits[whole] >= '0' && digits[whole] <= '9') ++whole;
  std::string grouped;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % 3 == 0) grouped.push_back(separator);
    grouped.push_back(digits[i]);
  }
  return grouped + digits.substr(whole);
}

/// Digits of a non-negative real.
std::string real_digits(double value, const FormatSpec& spec) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  if (spec.type == '\0' && spec.precision < 0) return python_float(value);
  if (spec.precision > kMaxPrecision) throw TemplateError("a format has more than 100 decimals");
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  char digits[512];
  switch (spec.type) {
    case 'e':
      std::snprintf(digits, sizeof digits, "%.*e", precision, value);
      break;
    case 'E':
      std::snprintf(digits, sizeof digits, "%.*E", precision, value);
      break;
    case 'g':
    case '\0':
      std::snprintf(digits, sizeof digits, "%.*g", precision, value);
      break;
    case 'G':
      std::snprintf(digits, sizeof digits, "%.*G", precision, value);
      break;
    case '%':
      std::snprintf(digits, sizeof digits, "%.*f%%", precision, value * 100);
      break;
    default:
      std::snprintf(digits, sizeof digits, "%.*f", precision, value);
  }
  return digits;
}

bool is_real_type(char type) {
  return type != '\0' && std::string_view("eEfFgG%").find(type) != std::string_view::npos;
}

std::string integer_digits(std::uint64_t magnitude, const FormatSpec& spec) {
  switch (spec.type) {
    case 'x':
      return (spec.alternate ? "0x" : "") + unsigned_digits(magnitude, 16, false);
    case 'X':
      return (spec.alternate ? "0X" : "") + unsigned_digits(magnitude, 16, true);
    case 'o':
      return (spec.alternate ? "0o" : "") + unsigned_digits(magnitude, 8, false);
    case 'b':
      return (spec.alternate ? "0b" : "") + unsigned_digits(magnitude, 2, false);
    case 'd':
    case 'i':
    case 'u':
    case '\0':
      return unsigned_digits(magnitude, 10, false);
    default:
      throw TemplateError(std::string("unknown format code '") + spec.type + "' for an integer");
  }
}

void append_padded(Interpreter& interpreter, const Text& sign, const Text& body, const FormatSpec& spec, char fallback,
                   Text* out) {
  const char align = spec.align == '\0' ? fallback : spec.align;
  const auto size = static_cast<std::int64_t>(sign.size() + count_characters_before(body.bytes(), body.size()));
  const std::int64_t missing = spec.width > size ? spec.width - size : 0;
  interpreter.budget().step(missing / 16);
  const std::int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  if (align == '=') out->append(sign);
  for (std::int64_t i = 0; i < left; ++i) out->append(spec.fill);
  if (align != '=') out->append(sign);
  out->append(body);
  for (std::int64_t i = left; i < missing; ++i) out->append(spec.fill);
}

}  // namespace

FormatSpec parse_format_spec(const Text& text) {
  FormatSpec spec;
  const std::string& bytes = text.bytes();
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  std::size_t at = 0;
  std::size_t first = 0;
  if (!bytes.empty()) decode_utf8(bytes, &first);
  if (first > 0 && first < bytes.size() && is_align(bytes[first])) {
    spec.fill = text.slice(0, first);
    spec.align = bytes[first];
    at = first + 1;
  } else if (!bytes.empty() && is_align(bytes[0])) {
    spec.align = bytes[0];
    at = 1;
  }
  if (at < bytes.size() && (bytes[at] == '+' || bytes[at] == '-' || bytes[at] == ' ')) spec.sign = bytes[at++];
  if (at < bytes.size() && bytes[at] == '#') {
    spec.alternate = true;
    ++at;
  }
  if (at < bytes.size() && bytes[at] == '0' && spec.align == '\0') {
    spec.fill = Text("0", true);
    spec.align = '=';
  }
  spec.width = parse_count(bytes, &at);
  if (at < bytes.size() && (bytes[at] == ',' || bytes[at] == '_')) spec.grouping = bytes[at++];
  if (at < bytes.size() && bytes[at] == '.') {
    ++at;
    spec.precision = parse_count(bytes, &at);
  }
  if (at < bytes.size()) spec.type = bytes[at++];
  if (at != bytes.size()) throw TemplateError("invalid format specifier");
  return spec;
}

void append_formatted(Interpreter& interpreter, const Value& value, const FormatSpec& spec, Text* out) {
  const bool plain = !value.is_number() || (value.kind() == Kind::boolean && (spec.type == '\0' || spec.type == 's'));
  if (plain || spec.type == 's') {
    if (spec.type != '\0' && spec.type != 's') {
      throw TemplateError(std::string("unknown format code '") + spec.type + "' for '" + type_name(value) + "'");
    }
    Text text = interpreter.to_text(value);
    if (spec.precision >= 0) {
      const Value whole = interpreter.string(std::move(text));
      text = take_characters(interpreter, whole, 0, static_cast<std::size_t>(spec.precision)).text();
    }
    FormatSpec padding = spec;
    if (padding.align == '=') padding.align = '<';
    return append_padded(interpreter, Text(), text, padding, '<', out);
  }
  const bool real = value.kind() == Kind::real || is_real_type(spec.type);
  const bool negative = real ? std::signbit(value.as_real()) : value.as_integer() < 0;
  std::string digits;
  if (real) {
    if (!is_real_type(spec.type) && spec.type != '\0') {
      throw TemplateError(std::string("unknown format code '") + spec.type + "' for a float");
    }
    digits = real_digits(std::abs(value.as_real()), spec);
  } else {
    const auto bits = static_cast<std::uint64_t>(value.as_integer());
    digits = integer_digits(negative ? 0 - bits : bits, spec);
  }
  if (spec.grouping != '\0') digits = group_thousands(digits, spec.grouping);
  const Text sign(negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "", value.trusted());
  append_padded(interpreter, sign, Text(digits, value.trusted()), spec, '>', out);
}

}  // namespace inferd::jinja
