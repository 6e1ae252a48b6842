// String operations on marked text.
#include "engine/text/jinja/strings.h"

#include <algorithm>

#include "base/utf8.h"
#include "engine/text/jinja/characters.h"
#include "engine/text/jinja/limits.h"

namespace inferd::jinja {
namespace {

bool starts_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

/// Appends map(character) for each character, with the origin of the character.
template <class Map>
Text map_characters(const Text& text, Map map) {
  Text out;
  text.for_each_run([&](std::string_view run, bool trusted) {
    std::string mapped;
    for (std::size_t at = 0; at < run.size();) {
      const std::size_t begin = at;
      const char32_t c = decode_utf8(run, &at);
      map(c, run.substr(begin, at - begin), &mapped);
    }
    out.append(mapped, trusted);
  });
  return out;
}

void append_upper(char32_t c, std::string_view bytes, std::string* out) {
  if (c == 0xdf) {
    *out += "SS";
  } else if (const char32_t upper = to_upper(c); upper != c) {
    append_utf8(out, upper);
  } else {
    *out += bytes;
  }
}

void append_lower(char32_t c, std::string_view bytes, std::string* out) {
  if (const char32_t lower = to_lower(c); lower != c) {
    append_utf8(out, lower);
  } else {
    *out += bytes;
  }
}

/// Python's slice.indices(): where to begin, and how many items to take.
struct SliceWalk {
  std::int64_t begin = 0, step = 1;
  std::size_t count = 0;
};

SliceWalk walk_of(const SliceBounds& bounds, std::int64_t size) {
  SliceWalk walk;
  walk.step = bounds.step.value_or(1);
  if (walk.step == 0) throw TemplateError("slice step cannot be zero");
  const bool forward = walk.step > 0;
  const std::int64_t low = forward ? 0 : -1;
  const std::int64_t high = forward ? size : size - 1;
  const auto clamp = [&](std::optional<std::int64_t> bound, std::int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? *bound + size : *bound, low, high);
  };
  walk.begin = clamp(bounds.begin, forward ? low : high);
  const std::int64_t end = clamp(bounds.end, forward ? high : low);
  // Steps may be as large as the type: count with the distance first.
  const std::int64_t distance = forward ? end - walk.begin : walk.begin - end;
  if (distance <= 0) return walk;
  const std::uint64_t stride =
      forward ? static_cast<std::uint64_t>(walk.step) : 0 - static_cast<std::uint64_t>(walk.step);
  walk.count = static_cast<std::size_t>((static_cast<std::uint64_t>(distance) - 1) / stride + 1);
  return walk;
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (starts_character(text[i])) starts.push_back(i);
  }
  starts.push_back(text.size());
  return starts;
}

Value slice_string(Interpreter& interpreter, const Value& text, const SliceWalk& walk) {
  if (walk.step == 1 || walk.count == 0) {
    const auto begin = static_cast<std::size_t>(walk.begin);
    return take_characters(interpreter, text, begin, begin + walk.count);
  }
  Charge charge(&interpreter.budget());
  charge.add(text.as_string().characters * sizeof(std::size_t));
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  Text part;
  std::int64_t at = walk.begin;
  for (std::size_t i = 0; i < walk.count; ++i) {
    part.append(text.text(), starts[static_cast<std::size_t>(at)], starts[static_cast<std::size_t>(at) + 1]);
    if (i + 1 < walk.count) at += walk.step;
  }
  return interpreter.string(std::move(part), text.as_string().markup);
}

}  // namespace

std::size_t byte_of_character(const StringObject& text, std::size_t character) {
  if (character >= text.characters) return text.text.size();
  if (text.ascii()) return character;
  const std::string& bytes = text.text.bytes();
  std::size_t at = 0;
  for (std::size_t seen = 0; at < bytes.size(); ++at) {
    if (!starts_character(bytes[at])) continue;
    if (seen == character) break;
    ++seen;
  }
  return at;
}

std::size_t count_characters_before(std::string_view text, std::size_t byte) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(byte), starts_character));
}

Value take_characters(Interpreter& interpreter, const Value& text, std::size_t begin, std::size_t end) {
  const StringObject& source = text.as_string();
  if (!source.ascii()) interpreter.budget().touch(source.text.size());
  return interpreter.string(source.text.slice(byte_of_character(source, begin), byte_of_character(source, end)),
                            source.markup);
}

std::vector<Value> split_characters(Interpreter& interpreter, const Value& text) {
  const std::string& bytes = text.bytes();
  std::vector<Value> characters;
  for (std::size_t begin = 0; begin < bytes.size();) {
    interpreter.budget().step();
    std::size_t end = begin + 1;
    while (end < bytes.size() && !starts_character(bytes[end])) ++end;
    characters.push_back(interpreter.string(text.text().slice(begin, end)));
    begin = end;
  }
  return characters;
}

Value take_slice(Interpreter& interpreter, const Value& container, const SliceBounds& bounds) {
  if (container.is_undefined()) throw TemplateError(container.undefined_message());
  if (container.is_string())
    return slice_string(interpreter, container, walk_of(bounds, interpreter.length(container)));
  if (!container.is_sequence()) return Value::undefined("'" + type_name(container) + " object' cannot be sliced");
  const SliceWalk walk = walk_of(bounds, interpreter.length(container));
  std::vector<Value> items;
  items.reserve(walk.count);
  std::int64_t at = walk.begin;
  for (std::size_t i = 0; i < walk.count; ++i) {
    items.push_back(container.as_list().items[static_cast<std::size_t>(at)]);
    if (i + 1 < walk.count) at += walk.step;
  }
  return Value::list(&interpreter.budget(), std::move(items), container.kind());
}

Text escape_html(const Text& text) {
  return map_characters(text, [](char32_t c, std::string_view bytes, std::string* out) {
    switch (c) {
      case '&':
        *out += "&amp;";
        break;
      case '<':
        *out += "&lt;";
        break;
      case '>':
        *out += "&gt;";
        break;
      case '\'':
        *out += "&#39;";
        break;
      case '"':
        *out += "&#34;";
        break;
      default:
        *out += bytes;
    }
  });
}

Text to_upper_text(const Text& text) { return map_characters(text, append_upper); }

Text to_lower_text(const Text& text) { return map_characters(text, append_lower); }

Text capitalize_text(const Text& text) {
  bool first = true;
  return map_characters(text, [&first](char32_t c, std::string_view bytes, std::string* out) {
    if (!first) return append_lower(c, bytes, out);
    first = false;
    if (c == 0xdf) {
      *out += "Ss";
    } else {
      append_upper(c, bytes, out);
    }
  });
}

std::pair<std::size_t, std::size_t> strip_range(std::string_view text, const std::string* set, bool left, bool right) {
  const auto strippable = [set, text](std::size_t begin, std::size_t end) {
    if (set != nullptr) return set->find(text.substr(begin, end - begin)) != std::string::npos;
    std::size_t at = begin;
    return is_space(decode_utf8(text, &at));
  };
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end) {
    std::size_t next = begin + 1;
    while (next < end && !starts_character(text[next])) ++next;
    if (!strippable(begin, next)) break;
    begin = next;
  }
  while (right && end > begin) {
    std::size_t last = end - 1;
    while (last > begin && !starts_character(text[last])) --last;
    if (!strippable(last, end)) break;
    end = last;
  }
  return {begin, end};
}

Text replace_text(Budget& budget, const Text& text, const Text& old, const Text& fresh, std::int64_t count) {
  const std::string& bytes = text.bytes();
  budget.touch(bytes.size());
  Text out;
  std::size_t copied = 0;
  std::size_t search = 0;
  for (std::int64_t done = 0; count < 0 || done < count; ++done) {
    std::size_t found = 0;
    if (old.empty()) {  // between all characters, and at both ends
      found = search;
      if (found > bytes.size()) break;
      search = found + 1;
      while (search < bytes.size() && !starts_character(bytes[search])) ++search;
    } else {
      found = bytes.find(old.bytes(), search);
      if (found == std::string::npos) break;
      search = found + old.size();
    }
    budget.step();
    budget.touch(fresh.size());
    out.append(text, copied, found);
    out.append(fresh);
    copied = found + old.size();
  }
  out.append(text, copied, bytes.size());
  return out;
}

std::vector<Value> split_lines(Interpreter& interpreter, const Text& text, bool keep_ends, bool markup) {
  const std::string& bytes = text.bytes();
  std::vector<Value> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = at;
    const char32_t c = decode_utf8(bytes, &at);
    const bool breaks = (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    interpreter.budget().step();
    if (c == '\r' && at < bytes.size() && bytes[at] == '\n') ++at;
    lines.push_back(interpreter.string(text.slice(begin, keep_ends ? at : end), markup));
    begin = at;
  }
  if (begin < bytes.size()) lines.push_back(interpreter.string(text.slice(begin, bytes.size()), markup));
  return lines;
}

}  // namespace inferd::jinja
