// str() and repr().
#include "engine/text/jinja/stringify.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/limits.h"

namespace inferd::jinja {
namespace {

void append_string_repr(const Text& text, Text* out) {
  const std::string& bytes = text.bytes();
  const bool use_double = bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = use_double ? '"' : '\'';
  out->append(std::string_view(&quote, 1), true);
  text.for_each_run([&](std::string_view run, bool trusted) {
    for (std::size_t at = 0; at < run.size();) {
      const std::size_t begin = at;
      const char32_t c = decode_utf8(run, &at);
      char escape[16] = "";
      if (c == '\n')
        std::snprintf(escape, sizeof escape, "\\n");
      else if (c == '\r')
        std::snprintf(escape, sizeof escape, "\\r");
      else if (c == '\t')
        std::snprintf(escape, sizeof escape, "\\t");
      else if (c == '\\' || c == static_cast<unsigned char>(quote))
        std::snprintf(escape, sizeof escape, "\\%c", static_cast<char>(c));
      else if (!is_printable(c)) {
        const char* const format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
        std::snprintf(escape, sizeof escape, format, static_cast<unsigned>(c));
      }
      out->append(escape[0] != '\0' ? std::string_view(escape) : run.substr(begin, at - begin), trusted);
    }
  });
  out->append(std::string_view(&quote, 1), true);
}

void append_items_repr(Interpreter& interpreter, const Value& value, Text* out, int depth) {
  const bool is_list = value.kind() == Kind::list;
  out->append(is_list ? "[" : "(", true);
  const auto& items = value.as_list().items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->append(", ", true);
    append_repr(interpreter, items[i], out, depth + 1);
  }
  out->append(is_list ? "]" : items.size() == 1 ? ",)" : ")", true);
}

void append_dict_repr(Interpreter& interpreter, const Value& value, Text* out, int depth) {
  out->append("{", true);
  bool first = true;
  for (const auto& [key, item] : value.as_dict().entries()) {
    if (!first) out->append(", ", true);
    first = false;
    append_repr(interpreter, key, out, depth + 1);
    out->append(": ", true);
    append_repr(interpreter, item, out, depth + 1);
  }
  out->append("}", true);
}

}  // namespace

std::string python_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[64];
  const auto scientific = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific);
  const std::string_view text(digits, static_cast<std::size_t>(scientific.ptr - digits));
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(std::string(text.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) return std::string(text);
  char fixed[64];
  const auto end = std::to_chars(fixed, fixed + sizeof fixed, value, std::chars_format::fixed);
  std::string result(fixed, end.ptr);
  if (result.find('.') == std::string::npos) result += ".0";
  return result;
}

void append_string(Interpreter& interpreter, const Value& value, Text* out) {
  if (value.is_string()) {
    out->append(value.text());
  } else if (!value.is_undefined()) {
    append_repr(interpreter, value, out);
  }
}

void append_repr(Interpreter& interpreter, const Value& value, Text* out, int depth) {
  interpreter.budget().step();
  if (depth > kMaxValueDepth) throw TemplateError("containers are nested too deep to print");
  switch (value.kind()) {
    case Kind::undefined:
      out->append("Undefined", true);
      break;
    case Kind::none:
      out->append("None", true);
      break;
    case Kind::boolean:
      out->append(value.as_bool() ? "True" : "False", true);
      break;
    case Kind::integer:
      out->append(std::to_string(value.as_integer()), value.trusted());
      break;
    case Kind::real:
      out->append(python_float(value.as_real()), value.trusted());
      break;
    case Kind::string:
      if (value.as_string().markup) out->append("Markup(", true);
      append_string_repr(value.text(), out);
      if (value.as_string().markup) out->append(")", true);
      break;
    case Kind::list:
    case Kind::tuple:
      append_items_repr(interpreter, value, out, depth);
      break;
    case Kind::dict:
      append_dict_repr(interpreter, value, out, depth);
      break;
    case Kind::object:
      out->append(value.as_object().describe(), true);
      break;
  }
}

}  // namespace inferd::jinja
