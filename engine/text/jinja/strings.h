// String operations that keep the origin of every byte. Positions are bytes unless called characters (code points).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

/// Characters [begin, end) of a string.
Value take_characters(Interpreter& interpreter, const Value& text, std::size_t begin, std::size_t end);
/// A string's characters as strings.
std::vector<Value> split_characters(Interpreter& interpreter, const Value& text);
/// Byte position of a character; the size of the text if it has fewer.
std::size_t byte_of_character(const StringObject& text, std::size_t character);
std::size_t count_characters_before(std::string_view text, std::size_t byte);

struct SliceBounds {
  std::optional<std::int64_t> begin, end, step;
};
/// container[begin:end:step] of a string, list or tuple.
Value take_slice(Interpreter& interpreter, const Value& container, const SliceBounds& bounds);

Text escape_html(const Text& text);
Text to_upper_text(const Text& text);
Text to_lower_text(const Text& text);
/// First character upper, the rest lower.
Text capitalize_text(const Text& text);

/// Byte range that is left without leading / trailing characters of `set` (white space if null).
std::pair<std::size_t, std::size_t> strip_range(std::string_view text, const std::string* set, bool left, bool right);
/// At most `count` replacements, all if negative.
Text replace_text(Budget& budget, const Text& text, const Text& old, const Text& fresh, std::int64_t count);
/// Python's str.splitlines().
std::vector<Value> split_lines(Interpreter& interpreter, const Text& text, bool keep_ends, bool markup);

}  // namespace inferd::jinja
