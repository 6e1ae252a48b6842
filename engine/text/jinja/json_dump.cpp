// json.dumps() of values.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/stringify.h"

namespace inferd::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Interpreter& interpreter, const JsonStyle& style, Text* out)
      : interpreter_(interpreter), style_(style), out_(*out) {}

  void write(const Value& value, int depth) {
    interpreter_.budget().step();
    if (depth > kMaxValueDepth) throw TemplateError("containers are nested too deep for JSON");
    switch (value.kind()) {
      case Kind::none:
        return out_.append("null", true);
      case Kind::string:
        return write_string(value.text());
      case Kind::boolean:
      case Kind::integer:
      case Kind::real:
        return out_.append(scalar(value), value.trusted());
      case Kind::list:
      case Kind::tuple:
        return write_list(value, depth);
      case Kind::dict:
        return write_dict(value, depth);
      default:
        throw TemplateError("object of type " + type_name(value) + " is not JSON serializable");
    }
  }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.kind() == Kind::boolean) return value.as_bool() ? "true" : "false";
    if (value.kind() == Kind::integer) return std::to_string(value.as_integer());
    const double real = value.as_real();
    if (std::isnan(real)) return "NaN";
    if (std::isinf(real)) return real > 0 ? "Infinity" : "-Infinity";
    return python_float(real);
  }

  void new_line(int depth) {
    if (!style_.indent) return;
    out_.append("\n", true);
    for (int i = 0; i < depth; ++i) out_.append(*style_.indent, true);
  }

  void write_list(const Value& value, int depth) {
    const auto& items = value.as_list().items;
    if (items.empty()) return out_.append("[]", true);
    out_.append("[", true);
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator, true);
      new_line(depth + 1);
      write(items[i], depth + 1);
    }
    new_line(depth);
    out_.append("]", true);
  }

  void write_dict(const Value& value, int depth) {
    std::vector<std::pair<Value, Value>> entries = value.as_dict().entries();
    if (entries.empty()) return out_.append("{}", true);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [this](const auto& a, const auto& b) {
        return compare(interpreter_.budget(), a.first, b.first) < 0;
      });
    }
    out_.append("{", true);
    bool first = true;
    for (const auto& [key, item] : entries) {
      if (!first) out_.append(style_.item_separator, true);
      first = false;
      new_line(depth + 1);
      write_key(key);
      out_.append(style_.key_separator, true);
      write(item, depth + 1);
    }
    new_line(depth);
    out_.append("}", true);
  }

  void write_key(const Value& key) {
    if (key.is_string()) return write_string(key.text());
    if (!key.is_number() && !key.is_none()) {
      throw TemplateError("keys must be str, int, float, bool or None, not " + type_name(key));
    }
    out_.append("\"", true);
    out_.append(scalar(key), key.trusted());
    out_.append("\"", true);
  }

  void write_string(const Text& text) {
    out_.append("\"", true);
    text.for_each_run([this](std::string_view run, bool trusted) {
      std::size_t plain = 0;  // where the part begins that is written as it is
      for (std::size_t at = 0; at < run.size();) {
        const std::size_t begin = at;
        const char32_t c = decode_utf8(run, &at);
        const bool escaped = c < 0x20 || c == '"' || c == '\\' || (style_.ascii_only && c >= 0x7f);
        if (!escaped || (c == 0x7f)) continue;
        out_.append(run.substr(plain, begin - plain), trusted);
        write_escape(c, trusted);
        plain = at;
      }
      out_.append(run.substr(plain), trusted);
    });
    out_.append("\"", true);
  }

  void write_escape(char32_t c, bool trusted) {
    constexpr std::string_view kCharacters = "\n\r\t\b\f\"\\";
    constexpr std::string_view kLetters = "nrtbf\"\\";
    const std::size_t known = c < 0x80 ? kCharacters.find(static_cast<char>(c)) : std::string_view::npos;
    char escape[16];
    if (known != std::string_view::npos) {
      std::snprintf(escape, sizeof escape, "\\%c", kLetters[known]);
    } else if (c < 0x10000) {
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
    } else {
      const unsigned rest = static_cast<unsigned>(c) - 0x10000;
      std::snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
    }
    out_.append(escape, trusted);
  }

  Interpreter& interpreter_;
  const JsonStyle& style_;
  Text& out_;
};

}  // namespace

void append_json(Interpreter& interpreter, const Value& value, const JsonStyle& style, Text* out) {
  JsonWriter(interpreter, style, out).write(value, 0);
}

}  // namespace inferd::jinja
