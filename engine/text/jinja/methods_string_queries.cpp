// Methods of str that look at text: startswith, find, count, is….
#include <algorithm>
#include <unordered_map>

#include "base/utf8.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/methods_string.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

/// The part of a string between two optional character positions, as Python's start and end arguments mean them.
struct Window {
  std::size_t begin = 0, end = 0;  // bytes
  bool valid = true;               // start is not behind the end
};

Window window_of(const Value& self, const Parameters& parameters) {
  const StringObject& text = self.as_string();
  const auto size = static_cast<std::int64_t>(text.characters);
  std::int64_t begin = parameters.integer(1, 0);
  std::int64_t end = parameters.integer(2, size);
  if (begin < 0) begin = std::max<std::int64_t>(begin + size, 0);
  if (end < 0) end = std::max<std::int64_t>(end + size, 0);
  end = std::min(end, size);
  Window window;
  window.valid = begin <= end;
  window.begin = byte_of_character(text, static_cast<std::size_t>(std::min(begin, size)));
  window.end = byte_of_character(text, static_cast<std::size_t>(end));
  return window;
}

Value affix(Interpreter& interpreter, const Value& self, Arguments& arguments, bool prefix) {
  const Parameters parameters(prefix ? "startswith()" : "endswith()", arguments, {"affix", "start", "end"});
  const Window window = window_of(self, parameters);
  const Value& wanted = parameters.require(0);
  const std::vector<Value> candidates =
      wanted.kind() == Kind::tuple ? wanted.as_list().items : std::vector<Value>{wanted};
  interpreter.budget().step(static_cast<std::int64_t>(candidates.size()));
  if (!window.valid) return Value::boolean(false);
  const std::string_view part = std::string_view(self.bytes()).substr(window.begin, window.end - window.begin);
  for (const Value& candidate : candidates) {
    if (candidate.is_undefined()) throw TemplateError(candidate.undefined_message());
    if (!candidate.is_string()) parameters.fail("needs a string or a tuple of strings, found " + type_name(candidate));
    if (prefix ? part.starts_with(candidate.bytes()) : part.ends_with(candidate.bytes())) return Value::boolean(true);
  }
  return Value::boolean(false);
}

Value startswith(Interpreter& i, const Value& self, Arguments& a) { return affix(i, self, a, true); }
Value endswith(Interpreter& i, const Value& self, Arguments& a) { return affix(i, self, a, false); }

/// Character position of a substring, or -1.
std::int64_t search(Interpreter& interpreter, const Value& self, Arguments& arguments, bool from_right) {
  const Parameters parameters("find()", arguments, {"sub", "start", "end"});
  const std::string& wanted = parameters.require_text(0).bytes();
  const Window window = window_of(self, parameters);
  interpreter.budget().touch(self.text().size());
  if (!window.valid) return -1;
  const std::string_view part = std::string_view(self.bytes()).substr(window.begin, window.end - window.begin);
  const std::size_t found = from_right ? part.rfind(wanted) : part.find(wanted);
  if (found == std::string_view::npos) return -1;
  return static_cast<std::int64_t>(count_characters_before(self.bytes(), window.begin + found));
}

Value find(Interpreter& i, const Value& self, Arguments& a) { return Value::integer(search(i, self, a, false)); }
Value rfind(Interpreter& i, const Value& self, Arguments& a) { return Value::integer(search(i, self, a, true)); }

Value require_found(std::int64_t position) {
  if (position < 0) throw TemplateError("substring not found");
  return Value::integer(position);
}
Value index(Interpreter& i, const Value& self, Arguments& a) { return require_found(search(i, self, a, false)); }
Value rindex(Interpreter& i, const Value& self, Arguments& a) { return require_found(search(i, self, a, true)); }

Value count(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("count()", arguments, {"sub", "start", "end"});
  const std::string& wanted = parameters.require_text(0).bytes();
  const Window window = window_of(self, parameters);
  interpreter.budget().touch(self.text().size());
  if (!window.valid) return Value::integer(0);
  const std::string_view part = std::string_view(self.bytes()).substr(window.begin, window.end - window.begin);
  if (wanted.empty()) return Value::integer(static_cast<std::int64_t>(count_characters_before(part, part.size())) + 1);
  std::int64_t found = 0;
  for (std::size_t at = part.find(wanted); at != std::string_view::npos; at = part.find(wanted, at + wanted.size()))
    ++found;
  return Value::integer(found);
}

/// True if the string is not empty and `property` holds for each character.
template <bool (*property)(char32_t)>
Value every(Interpreter& interpreter, const Value& self, Arguments&) {
  const std::string& bytes = self.bytes();
  interpreter.budget().touch(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    if (!property(decode_utf8(bytes, &at))) return Value::boolean(false);
  }
  return Value::boolean(!bytes.empty());
}

bool is_alphanumeric(char32_t c) { return is_alphabetic(c) || is_numeric(c); }
bool is_ascii(char32_t c) { return c < 0x80; }

/// Cased characters exist and none has the other case.
Value single_case(Interpreter& interpreter, const Value& self, bool (*wanted)(char32_t), bool (*other)(char32_t)) {
  const std::string& bytes = self.bytes();
  interpreter.budget().touch(bytes.size());
  bool seen = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t c = decode_utf8(bytes, &at);
    if (other(c)) return Value::boolean(false);
    seen |= wanted(c);
  }
  return Value::boolean(seen);
}

Value isupper(Interpreter& i, const Value& self, Arguments&) { return single_case(i, self, is_upper, is_lower); }
Value islower(Interpreter& i, const Value& self, Arguments&) { return single_case(i, self, is_lower, is_upper); }
Value isascii(Interpreter& i, const Value& self, Arguments& a) {
  return self.text().empty() ? Value::boolean(true) : every<is_ascii>(i, self, a);
}

}  // namespace

Method find_string_query(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> kMethods = {{"startswith", startswith},
                                                                        {"endswith", endswith},
                                                                        {"find", find},
                                                                        {"rfind", rfind},
                                                                        {"index", index},
                                                                        {"rindex", rindex},
                                                                        {"count", count},
                                                                        {"isdigit", every<is_decimal_digit>},
                                                                        {"isdecimal", every<is_decimal_digit>},
                                                                        {"isnumeric", every<is_numeric>},
                                                                        {"isalpha", every<is_alphabetic>},
                                                                        {"isalnum", every<is_alphanumeric>},
                                                                        {"isspace", every<is_space>},
                                                                        {"isprintable", every<is_printable>},
                                                                        {"isupper", isupper},
                                                                        {"islower", islower},
                                                                        {"isascii", isascii}};
  const auto found = kMethods.find(name);
  return found == kMethods.end() ? nullptr : found->second;
}

}  // namespace inferd::jinja
