// Methods of str that cut, join and change text.
#include <algorithm>
#include <unordered_map>

#include "base/utf8.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/format.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/methods_string.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

Value like(Interpreter& interpreter, const Value& self, Text text) {
  interpreter.budget().touch(self.text().size());
  return interpreter.string(std::move(text), self.as_string().markup);
}

Value strip_sides(Interpreter& interpreter, const Value& self, Arguments& arguments, bool left, bool right) {
  const Parameters parameters("strip()", arguments, {"chars"});
  const Text* set = parameters.text(0);
  const auto [begin, end] = strip_range(self.bytes(), set == nullptr ? nullptr : &set->bytes(), left, right);
  return like(interpreter, self, self.text().slice(begin, end));
}

Value strip(Interpreter& i, const Value& self, Arguments& a) { return strip_sides(i, self, a, true, true); }
Value lstrip(Interpreter& i, const Value& self, Arguments& a) { return strip_sides(i, self, a, true, false); }
Value rstrip(Interpreter& i, const Value& self, Arguments& a) { return strip_sides(i, self, a, false, true); }

Value upper(Interpreter& i, const Value& self, Arguments&) { return like(i, self, to_upper_text(self.text())); }
Value lower(Interpreter& i, const Value& self, Arguments&) { return like(i, self, to_lower_text(self.text())); }
Value capitalize(Interpreter& i, const Value& self, Arguments&) { return like(i, self, capitalize_text(self.text())); }

/// Each run of letters capitalised.
Value title(Interpreter& interpreter, const Value& self, Arguments&) {
  const std::string& bytes = self.bytes();
  Text out;
  std::size_t begin = 0;
  const auto flush = [&](std::size_t end) {
    interpreter.budget().step();
    out.append(capitalize_text(self.text().slice(begin, end)));
    begin = end;
  };
  for (std::size_t at = 0; at < bytes.size();) {
    const char32_t c = decode_utf8(bytes, &at);
    if (!is_upper(c) && !is_lower(c)) flush(at);
  }
  flush(bytes.size());
  return like(interpreter, self, std::move(out));
}

Value swapcase(Interpreter& interpreter, const Value& self, Arguments&) {
  Text out;
  const std::string& bytes = self.bytes();
  for (std::size_t at = 0; at < bytes.size();) {
    interpreter.budget().touch(64);
    const std::size_t begin = at;
    const char32_t c = decode_utf8(bytes, &at);
    const Text part = self.text().slice(begin, at);
    out.append(is_upper(c) ? to_lower_text(part) : to_upper_text(part));
  }
  return like(interpreter, self, std::move(out));
}

/// Pieces of `text` around white space, from the left or from the right.
std::vector<Value> split_at_space(Interpreter& interpreter, const Value& self, std::int64_t limit, bool from_right) {
  const Text& text = self.text();
  std::vector<Value> pieces;
  const auto add = [&](std::size_t from, std::size_t to) {
    pieces.push_back(interpreter.string(text.slice(from, to), self.as_string().markup));
  };
  auto [begin, end] = strip_range(text.bytes(), nullptr, true, true);
  const std::string_view bytes = text.bytes();
  while (begin < end) {
    interpreter.budget().step();
    if (limit >= 0 && static_cast<std::int64_t>(pieces.size()) == limit) {
      // The rest keeps its far end as it was.
      add(from_right ? 0 : begin, from_right ? end : bytes.size());
      break;
    }
    if (from_right) {
      std::size_t cut = end;
      while (cut > begin && strip_range(bytes.substr(begin, cut - begin), nullptr, false, true).second == cut - begin) {
        --cut;
        while (cut > begin && (static_cast<unsigned char>(bytes[cut]) & 0xc0) == 0x80) --cut;
      }
      add(cut, end);
      end = begin + strip_range(bytes.substr(begin, cut - begin), nullptr, false, true).second;
    } else {
      std::size_t cut = begin;
      for (std::size_t next = cut; cut < end && !is_space(decode_utf8(bytes, &next)); cut = next) {
      }
      add(begin, cut);
      begin = cut + strip_range(bytes.substr(cut, end - cut), nullptr, true, false).first;
    }
  }
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

std::vector<Value> split_at(Interpreter& interpreter, const Value& self, const std::string& separator,
                            std::int64_t limit, bool from_right) {
  const Text& text = self.text();
  const std::string& bytes = text.bytes();
  std::vector<Value> pieces;
  const auto add = [&](std::size_t from, std::size_t to) {
    pieces.push_back(interpreter.string(text.slice(from, to), self.as_string().markup));
  };
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  while (limit < 0 || static_cast<std::int64_t>(pieces.size()) < limit) {
    interpreter.budget().step();
    if (from_right) {
      if (end < separator.size()) break;
      const std::size_t found = bytes.rfind(separator, end - separator.size());
      if (found == std::string::npos) break;
      add(found + separator.size(), end);
      end = found;
    } else {
      const std::size_t found = bytes.find(separator, begin);
      if (found == std::string::npos) break;
      add(begin, found);
      begin = found + separator.size();
    }
  }
  add(begin, end);
  if (from_right) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

Value split_sides(Interpreter& interpreter, const Value& self, Arguments& arguments, bool from_right) {
  const Parameters parameters("split()", arguments, {"sep", "maxsplit"});
  const Text* separator = parameters.text(0);
  const std::int64_t limit = parameters.integer(1, -1);
  interpreter.budget().touch(self.text().size());
  if (separator == nullptr) return interpreter.list(split_at_space(interpreter, self, limit, from_right));
  if (separator->empty()) throw TemplateError("empty separator");
  return interpreter.list(split_at(interpreter, self, separator->bytes(), limit, from_right));
}

Value split(Interpreter& i, const Value& self, Arguments& a) { return split_sides(i, self, a, false); }
Value rsplit(Interpreter& i, const Value& self, Arguments& a) { return split_sides(i, self, a, true); }

Value splitlines(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("splitlines()", arguments, {"keepends"});
  return interpreter.list(split_lines(interpreter, self.text(), parameters.flag(0, false), self.as_string().markup));
}

Value partition_sides(Interpreter& interpreter, const Value& self, Arguments& arguments, bool from_right) {
  const Parameters parameters("partition()", arguments, {"sep"});
  const Text& separator = parameters.require_text(0);
  if (separator.empty()) throw TemplateError("empty separator");
  const Text& text = self.text();
  const std::size_t found = from_right ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  std::vector<Value> parts(3, interpreter.string("", true));
  if (found == std::string::npos) {
    parts[from_right ? 2 : 0] = self;
  } else {
    const std::size_t behind = found + separator.size();
    parts[0] = like(interpreter, self, text.slice(0, found));
    parts[1] = like(interpreter, self, text.slice(found, behind));
    parts[2] = like(interpreter, self, text.slice(behind, text.size()));
  }
  return interpreter.tuple(std::move(parts));
}

Value partition(Interpreter& i, const Value& self, Arguments& a) { return partition_sides(i, self, a, false); }
Value rpartition(Interpreter& i, const Value& self, Arguments& a) { return partition_sides(i, self, a, true); }

Value replace(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("replace()", arguments, {"old", "new", "count"});
  return like(interpreter, self,
              replace_text(interpreter.budget(), self.text(), parameters.require_text(0), parameters.require_text(1),
                           parameters.integer(2, -1)));
}

Value join(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("join()", arguments, {"iterable"});
  Text joined;
  std::size_t index = 0;
  for (const Value& item : interpreter.iterate(parameters.require(0))) {
    if (!item.is_string()) {
      throw TemplateError("sequence item " + std::to_string(index) + ": expected str instance, " + type_name(item) +
                          " found");
    }
    if (index++ > 0) joined.append(self.text());
    joined.append(item.text());
    interpreter.budget().step();
  }
  return like(interpreter, self, std::move(joined));
}

Value removeprefix(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("removeprefix()", arguments, {"prefix"});
  const std::string& prefix = parameters.require_text(0).bytes();
  if (!self.bytes().starts_with(prefix)) return self;
  return like(interpreter, self, self.text().slice(prefix.size(), self.text().size()));
}

Value removesuffix(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("removesuffix()", arguments, {"suffix"});
  const std::string& suffix = parameters.require_text(0).bytes();
  if (!self.bytes().ends_with(suffix)) return self;
  return like(interpreter, self, self.text().slice(0, self.text().size() - suffix.size()));
}

/// `left_share` of the padding (in halves) goes before the text.
Value pad(Interpreter& interpreter, const Value& self, Arguments& arguments, int left_share) {
  const Parameters parameters("padding", arguments, {"width", "fillchar"});
  const std::int64_t width = parameters.integer(0, 0);
  const auto size = static_cast<std::int64_t>(self.as_string().characters);
  if (width <= size) return self;
  if (width > static_cast<std::int64_t>(kMaxTextBytes))
    throw TemplateError("the template makes a string of more than 16 MiB");
  const Text* given = parameters.text(1);
  const Text fill = given == nullptr ? Text(" ", true) : *given;
  const auto missing = static_cast<std::size_t>(width - size);
  // Python's centring gives the odd blank to the left only if the width is odd too.
  const std::size_t left = left_share == 1 ? missing / 2 + (missing & static_cast<std::size_t>(width) & 1)
                                           : missing * static_cast<std::size_t>(left_share) / 2;
  interpreter.budget().step(static_cast<std::int64_t>(missing / 16));
  Text out;
  for (std::size_t i = 0; i < left; ++i) out.append(fill);
  out.append(self.text());
  for (std::size_t i = left; i < missing; ++i) out.append(fill);
  return like(interpreter, self, std::move(out));
}

Value ljust(Interpreter& i, const Value& self, Arguments& a) { return pad(i, self, a, 0); }
Value center(Interpreter& i, const Value& self, Arguments& a) { return pad(i, self, a, 1); }
Value rjust(Interpreter& i, const Value& self, Arguments& a) { return pad(i, self, a, 2); }

Value zfill(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const bool sign = self.bytes().starts_with("-") || self.bytes().starts_with("+");
  const Value digits = interpreter.string(self.text().slice(sign, self.text().size()));
  Arguments padding;
  padding.positional = {Value::integer(Parameters("zfill()", arguments, {"width"}).integer(0, 0) - sign),
                        interpreter.string("0", true)};
  Text out = self.text().slice(0, sign);
  out.append(pad(interpreter, digits, padding, 2).text());
  return like(interpreter, self, std::move(out));
}

Value format(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return format_braces(interpreter, self, arguments);
}

}  // namespace

Method find_string_method(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> kMethods = {{"strip", strip},
                                                                        {"lstrip", lstrip},
                                                                        {"rstrip", rstrip},
                                                                        {"upper", upper},
                                                                        {"lower", lower},
                                                                        {"casefold", lower},
                                                                        {"capitalize", capitalize},
                                                                        {"title", title},
                                                                        {"swapcase", swapcase},
                                                                        {"split", split},
                                                                        {"rsplit", rsplit},
                                                                        {"splitlines", splitlines},
                                                                        {"partition", partition},
                                                                        {"rpartition", rpartition},
                                                                        {"replace", replace},
                                                                        {"join", join},
                                                                        {"removeprefix", removeprefix},
                                                                        {"removesuffix", removesuffix},
                                                                        {"ljust", ljust},
                                                                        {"center", center},
                                                                        {"rjust", rjust},
                                                                        {"zfill", zfill},
                                                                        {"format", format}};
  const auto found = kMethods.find(name);
  return found != kMethods.end() ? found->second : find_string_query(name);
}

}  // namespace inferd::jinja
