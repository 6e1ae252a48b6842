// Filters that make text or numbers of one value.
#include <charconv>
#include <cmath>
#include <unordered_map>

#include "base/json.h"
#include "base/utf8.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/convert.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/format.h"
#include "engine/text/jinja/numbers.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

bool is_markup(const Value& value) { return value.is_string() && value.as_string().markup; }

/// str(value), still markup if it was.
Value soft_string(Interpreter& interpreter, const Value& value) {
  return value.is_string() ? value : interpreter.string(interpreter.to_text(value));
}

Value string(Interpreter& interpreter, const Value& input, Arguments&) { return soft_string(interpreter, input); }

/// Calls the method of str of the same name.
Value by_method(Interpreter& interpreter, const Value& input, Arguments& arguments, std::string_view method) {
  return find_string_method(method)(interpreter, soft_string(interpreter, input), arguments);
}
Value upper(Interpreter& i, const Value& input, Arguments& a) { return by_method(i, input, a, "upper"); }
Value lower(Interpreter& i, const Value& input, Arguments& a) { return by_method(i, input, a, "lower"); }
Value trim(Interpreter& i, const Value& input, Arguments& a) { return by_method(i, input, a, "strip"); }
Value capitalize(Interpreter& i, const Value& input, Arguments& a) { return by_method(i, input, a, "capitalize"); }

Value center(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  if (arguments.positional.empty() && arguments.named.empty()) arguments.positional.push_back(Value::integer(80));
  return by_method(interpreter, input, arguments, "center");
}

/// Words begin behind white space and - ( { [ <.
Value title(Interpreter& interpreter, const Value& input, Arguments&) {
  const Value text = soft_string(interpreter, input);
  const std::string& bytes = text.bytes();
  Text out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t c = decode_utf8(bytes, &at);
    if (!is_space(c) && c != '-' && c != '(' && c != '{' && c != '[' && c != '<') continue;
    interpreter.budget().step();
    out.append(capitalize_text(text.text().slice(begin, at)));
    begin = at;
  }
  out.append(capitalize_text(text.text().slice(begin, bytes.size())));
  return interpreter.string(std::move(out), is_markup(text));
}

Value replace(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"});
  const Text old = interpreter.to_text(parameters.require(0));
  const Text fresh = interpreter.to_text(parameters.require(1));
  return interpreter.string(
      replace_text(interpreter.budget(), interpreter.to_text(input), old, fresh, parameters.integer(2, -1)));
}

Value safe(Interpreter& interpreter, const Value& input, Arguments&) {
  return interpreter.string(interpreter.to_text(input), true);
}

Value escape(Interpreter& interpreter, const Value& input, Arguments&) {
  if (is_markup(input)) return input;
  return interpreter.string(escape_html(interpreter.to_text(input)), true);
}

Value force_escape(Interpreter& interpreter, const Value& input, Arguments&) {
  return interpreter.string(escape_html(interpreter.to_text(input)), true);
}

Value blanks(Interpreter& interpreter, std::int64_t count) {
  return binary_operation(interpreter, ExpressionKind::multiply, interpreter.string(" ", true), Value::integer(count));
}

Value indent(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("indent", arguments, {"width", "first", "blank"});
  if (input.is_undefined()) throw TemplateError(input.undefined_message());
  if (!input.is_string()) parameters.fail("needs a string, found " + type_name(input));
  const bool has_text = parameters.get(0) != nullptr && parameters.get(0)->is_string();
  Text prefix;
  if (has_text) {
    prefix = *parameters.text(0);
  } else {
    prefix = blanks(interpreter, parameters.integer(0, 4)).text();
  }
  Text padded = input.text();
  padded.append("\n", true);
  const std::vector<Value> lines = split_lines(interpreter, padded, false, false);
  Text out;
  if (parameters.flag(1, false)) out.append(prefix);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", true);
    interpreter.budget().touch(prefix.size() + 64);
    if (i > 0 && (parameters.flag(2, false) || !lines[i].text().empty())) out.append(prefix);
    out.append(lines[i].text());
  }
  return interpreter.string(std::move(out), is_markup(input));
}

/// Separators of json.dumps(): a pair of strings.
void set_separators(Interpreter& interpreter, const Value& pair, JsonStyle* style) {
  const std::vector<Value> parts = interpreter.iterate(pair);
  if (parts.size() != 2 || !parts[0].is_string() || !parts[1].is_string()) {
    throw TemplateError("tojson needs two separators");
  }
  style->item_separator = parts[0].bytes();
  style->key_separator = parts[1].bytes();
}

Value to_json(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii_only = parameters.flag(0, false);
  style.sort_keys = parameters.flag(3, false);
  if (parameters.given(1)) {
    style.item_separator = ",";
    const bool text = parameters.get(1)->is_string();
    style.indent = text ? parameters.text(1)->bytes() : blanks(interpreter, parameters.integer(1, 0)).bytes();
  }
  if (parameters.given(2)) set_separators(interpreter, *parameters.get(2), &style);
  Text out;
  append_json(interpreter, input, style, &out);
  return interpreter.string(std::move(out));
}

Value from_json_text(Interpreter& interpreter, const Value& input, Arguments&) {
  if (!input.is_string()) throw TemplateError("from_json needs a string, found " + type_name(input));
  interpreter.budget().step(static_cast<std::int64_t>(input.text().size() / 16));
  try {
    return value_of_json(parse_json(input.bytes()), input.text().all_trusted(), &interpreter.budget());
  } catch (const JsonError& error) {
    throw TemplateError(std::string("from_json: ") + error.what());
  }
}

Value to_integer(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("int", arguments, {"default", "base"});
  if (input.is_integral()) return Value::integer(input.as_integer(), input.trusted());
  const Value fallback = parameters.get(0) == nullptr ? Value::integer(0) : *parameters.get(0);
  std::optional<double> real;
  if (input.kind() == Kind::real) real = input.as_real();
  const bool trusted = input.is_string() ? input.text().all_trusted() : input.trusted();
  if (input.is_string()) {
    interpreter.budget().touch(input.text().size());
    if (const auto whole = parse_integer(input.bytes(), parameters.integer(1, 10)))
      return Value::integer(*whole, trusted);
    real = parse_real(input.bytes());
  }
  if (!real || !(std::abs(*real) < 9.2e18)) return fallback;
  return Value::integer(static_cast<std::int64_t>(*real), trusted);
}

Value to_real(Interpreter&, const Value& input, Arguments& arguments) {
  const Parameters parameters("float", arguments, {"default"});
  if (input.is_number()) return Value::real(input.as_real(), input.trusted());
  if (input.is_string()) {
    if (const auto real = parse_real(input.bytes())) return Value::real(*real, input.text().all_trusted());
  }
  return parameters.get(0) == nullptr ? Value::real(0) : *parameters.get(0);
}

Value absolute(Interpreter&, const Value& input, Arguments&) {
  if (!input.is_number()) throw TemplateError("bad operand type for abs(): '" + type_name(input) + "'");
  if (input.kind() == Kind::real) return Value::real(std::abs(input.as_real()), input.trusted());
  if (input.as_integer() == INT64_MIN) throw TemplateError("an integer does not fit 64 bits");
  return Value::integer(std::abs(input.as_integer()), input.trusted());
}

Value round(Interpreter&, const Value& input, Arguments& arguments) {
  const Parameters parameters("round", arguments, {"precision", "method"});
  const std::int64_t precision = parameters.integer(0, 0);
  const std::string method = parameters.text(1) == nullptr ? "common" : parameters.text(1)->bytes();
  if (!input.is_number()) parameters.fail("needs a number, found " + type_name(input));
  if (precision < -300 || precision > 300) parameters.fail("needs a precision between -300 and 300");
  if (method == "common") {
    if (input.is_integral() && precision >= 0) return Value::integer(input.as_integer(), input.trusted());
    return Value::real(round_decimal(input.as_real(), static_cast<int>(precision)), input.trusted());
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::real(std::ceil(input.as_real() * scale) / scale, input.trusted());
  if (method == "floor") return Value::real(std::floor(input.as_real() * scale) / scale, input.trusted());
  parameters.fail("knows the methods common, ceil and floor");
}

Value format(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Value pattern = soft_string(interpreter, input);
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    throw TemplateError("format cannot take positional and keyword arguments at the same time");
  }
  Value values = interpreter.tuple(arguments.positional);
  if (!arguments.named.empty()) {
    values = interpreter.dict();
    for (const auto& [name, value, trusted] : arguments.named)
      values.as_dict().set(interpreter.string(name, trusted), value);
  }
  return format_percent(interpreter, pattern, values);
}

Value word_count(Interpreter& interpreter, const Value& input, Arguments&) {
  const Text text = interpreter.to_text(input);
  interpreter.budget().touch(text.size());
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = decode_utf8(text.bytes(), &at);
    const bool part = c == '_' || is_alphabetic(c) || is_numeric(c);
    words += part && !inside;
    inside = part;
  }
  return Value::integer(words);
}

Value truncate(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const Value text = soft_string(interpreter, input);
  const Text end = parameters.text(2) == nullptr ? Text("...", true) : *parameters.text(2);
  const auto end_size = static_cast<std::int64_t>(count_characters_before(end.bytes(), end.size()));
  const std::int64_t length = parameters.integer(0, 255);
  const std::int64_t leeway = parameters.integer(3, 5);
  if (length < end_size || leeway < 0) parameters.fail("needs a length that holds its end");
  const auto size = static_cast<std::int64_t>(text.as_string().characters);
  if (length >= size || size - length <= leeway) return text;
  Text kept = take_characters(interpreter, text, 0, static_cast<std::size_t>(length - end_size)).text();
  if (!parameters.flag(1, false)) {
    const std::size_t blank = kept.bytes().rfind(' ');
    if (blank != std::string::npos) kept = kept.slice(0, blank);
  }
  kept.append(end);
  return interpreter.string(std::move(kept), is_markup(text));
}

}  // namespace

Filter find_text_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> kFilters = {{"string", string},
                                                                        {"upper", upper},
                                                                        {"lower", lower},
                                                                        {"trim", trim},
                                                                        {"capitalize", capitalize},
                                                                        {"center", center},
                                                                        {"title", title},
                                                                        {"replace", replace},
                                                                        {"safe", safe},
                                                                        {"escape", escape},
                                                                        {"e", escape},
                                                                        {"forceescape", force_escape},
                                                                        {"indent", indent},
                                                                        {"tojson", to_json},
                                                                        {"from_json", from_json_text},
                                                                        {"int", to_integer},
                                                                        {"float", to_real},
                                                                        {"abs", absolute},
                                                                        {"round", round},
                                                                        {"format", format},
                                                                        {"wordcount", word_count},
                                                                        {"truncate", truncate}};
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

}  // namespace inferd::jinja
