// JsonText: strings, values, objects, arrays.
#include "engine/grammar/json_text.h"

#include <algorithm>
#include <map>
#include <utility>

namespace inferd {
namespace {

constexpr std::uint32_t kMostIndent = 40;
constexpr std::uint32_t kLastCodePoint = 0x10FFFF;

}  // namespace

GrammarExpr JsonText::once(std::optional<GrammarRule>& rule, GrammarExpr (JsonText::*make)()) {
  if (!rule) {
    rule = builder_.declare();
    builder_.define(*rule, (this->*make)());
  }
  return builder_.call(*rule);
}

GrammarExpr JsonText::space() { return builder_.optional(once(space_, &JsonText::make_space)); }
GrammarExpr JsonText::character() { return once(character_, &JsonText::make_character); }
GrammarExpr JsonText::value() { return once(value_, &JsonText::make_value); }
GrammarExpr JsonText::object() { return once(object_, &JsonText::make_object); }
GrammarExpr JsonText::array() { return once(array_, &JsonText::make_array); }

GrammarExpr JsonText::make_space() {
  const GrammarExpr indent = builder_.bytes({{' ', ' '}, {'\t', '\t'}});
  return builder_.choice(
      {builder_.literal(" "), builder_.sequence({builder_.literal("\n"), builder_.repeat(indent, 0, kMostIndent)})});
}

GrammarExpr JsonText::make_character() {
  const unsigned char left_out = angles_ ? '\\' : '<';
  const GrammarExpr plain = builder_.code_points(
      {{0x20, '"' - 1}, {'"' + 1, left_out - 1}, {left_out + 1, '\\' - 1}, {'\\' + 1, kLastCodePoint}});
  const auto hex = [this](std::vector<ByteRange> ranges) { return builder_.bytes(std::move(ranges)); };
  const std::vector<ByteRange> any = {{'0', '9'}, {'a', 'f'}, {'A', 'F'}};
  const GrammarExpr digit = hex(any);
  const GrammarExpr d = hex({{'d', 'd'}, {'D', 'D'}}), low_half = hex({{'0', '7'}});
  const GrammarExpr not_d = hex({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}});
  const GrammarExpr first = hex({{'8', '9'}, {'a', 'b'}, {'A', 'B'}}), second = hex({{'c', 'f'}, {'C', 'F'}});
  const GrammarExpr code =
      builder_.choice({builder_.sequence({not_d, digit, digit, digit}),
                       builder_.sequence({d, low_half, digit, digit}),  // surrogates come in pairs
                       builder_.sequence({d, first, digit, digit, builder_.literal("\\u"), d, second, digit, digit})});
  const GrammarExpr escape = builder_.choice(
      {builder_.bytes(
           {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}}),
       builder_.sequence({builder_.literal("u"), code})});
  return builder_.choice({plain, builder_.sequence({builder_.literal("\\"), escape})});
}

GrammarExpr JsonText::make_string() {
  return builder_.sequence({builder_.literal("\""), builder_.star(make_character()), builder_.literal("\"")});
}

GrammarExpr JsonText::string(std::uint32_t min_length, std::uint32_t max_length) {
  if (min_length == 0 && max_length == kUnlimited) return once(string_, &JsonText::make_string);
  return builder_.rule(builder_.sequence(
      {builder_.literal("\""), builder_.repeat(character(), min_length, max_length), builder_.literal("\"")}));
}

GrammarExpr JsonText::boolean() { return builder_.one_of({"true", "false"}); }
GrammarExpr JsonText::null() { return builder_.literal("null"); }

GrammarExpr JsonText::make_value() {
  return builder_.choice({object(), array(), string(), number(), boolean(), null()});
}

GrammarExpr JsonText::comma() { return builder_.sequence({builder_.literal(","), space()}); }

GrammarExpr JsonText::member(GrammarExpr key, GrammarExpr value) {
  return builder_.sequence({key, builder_.literal(":"), space(), value});
}

GrammarExpr JsonText::list(char open, GrammarExpr item, std::uint32_t min, std::uint32_t max, char close) {
  const auto less = [](std::uint32_t count) { return count == 0 || count == kUnlimited ? count : count - 1; };
  std::vector<GrammarExpr> forms;
  if (min == 0) forms.push_back(builder_.empty());
  if (max > 0 && max >= min) {
    const GrammarExpr further = builder_.repeat(builder_.sequence({comma(), item}), less(min), less(max));
    forms.push_back(builder_.sequence({item, further, space()}));
  }
  return builder_.sequence(
      {builder_.literal({&open, 1}), space(), builder_.choice(std::move(forms)), builder_.literal({&close, 1})});
}

GrammarExpr JsonText::make_object() { return list('{', member(string(), value()), 0, kUnlimited, '}'); }
GrammarExpr JsonText::make_array() { return list('[', value(), 0, kUnlimited, ']'); }

GrammarExpr JsonText::other_key(const std::vector<std::string>& taken) {
  // Two automata at once: the UTF-8 of a string's characters, and how much of which taken key has been read.
  std::vector<GraphState> plain =
      text_without(angles_ ? std::vector<std::string>{"\"", "\\"} : std::vector<std::string>{"\"", "\\", "<"});
  std::vector<std::map<std::uint8_t, std::uint32_t>> keys(1);
  std::vector<bool> ends(1, false);
  for (const std::string& key : taken) {
    std::uint32_t at = 0;
    for (const char c : key) {
      const auto [edge, fresh] =
          keys[at].try_emplace(static_cast<std::uint8_t>(c), static_cast<std::uint32_t>(keys.size()));
      at = edge->second;
      if (fresh) {
        keys.emplace_back();
        ends.push_back(false);
      }
    }
    ends[at] = true;
  }
  const auto off = static_cast<std::uint32_t>(keys.size());  // the key has left all taken ones
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> known{{{0, 0}, 0}};
  std::vector<std::pair<std::uint32_t, std::uint32_t>> open{{0, 0}};
  std::vector<GraphState> states(1);
  const auto state_of = [&](std::uint32_t character, std::uint32_t key) {
    const auto [found, fresh] = known.try_emplace({character, key}, static_cast<std::uint32_t>(states.size()));
    if (fresh) {
      states.emplace_back();
      open.emplace_back(character, key);
    }
    return found->second;
  };
  while (!open.empty()) {
    const auto [character, key] = open.back();
    open.pop_back();
    const std::uint32_t from = known[{character, key}];
    states[from].final = plain[character].final && (key == off || !ends[key]);
    std::vector<GraphState::Edge> edges;
    for (const GraphState::Edge& edge : plain[character].edges) {
      std::uint32_t lo = std::max<std::uint32_t>(edge.bytes.lo, 0x20);  // control characters need escapes
      if (key != off) {
        for (const auto& [byte, next] : keys[key]) {
          if (byte < lo || byte > edge.bytes.hi) continue;
          if (byte > lo) {
            edges.push_back(
                {{static_cast<std::uint8_t>(lo), static_cast<std::uint8_t>(byte - 1)}, state_of(edge.target, off)});
          }
          edges.push_back({{byte, byte}, state_of(edge.target, next)});
          lo = byte + 1u;
        }
      }
      if (lo <= edge.bytes.hi) {
        edges.push_back({{static_cast<std::uint8_t>(lo), edge.bytes.hi}, state_of(edge.target, off)});
      }
    }
    states[from].edges = std::move(edges);
  }
  return builder_.sequence({builder_.literal("\""), builder_.graph(std::move(states)), builder_.literal("\"")});
}

}  // namespace inferd
