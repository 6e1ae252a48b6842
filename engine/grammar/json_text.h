// JsonText: the parts of JSON texts as expressions of a grammar.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/grammar.h"

namespace inferd {

/// Integers are written with at most this many digits, numbers with as many before and after the point.
constexpr int kMostDigits = 18;
constexpr std::int64_t kMostInteger = 999'999'999'999'999'999;

/// Bounds of a number; none where nullopt.
struct NumberBounds {
  std::optional<std::int64_t> min, max;
  bool min_excluded = false, max_excluded = false;
};

/// Makes each rule once, when it is first asked for. The builder outlives it.
class JsonText {
 public:
  /// `angles`: "<" may stand in strings as it is, else only as an escape.
  explicit JsonText(GrammarBuilder& builder, bool angles = true) : builder_(builder), angles_(angles) {}

  bool angles() const { return angles_; }

  /// Between tokens: nothing, a space, or a line break with at most 40 spaces or tabs behind it.
  GrammarExpr space();
  /// One character of a string, written in any way JSON has.
  GrammarExpr character();
  /// With its quotes. Characters are counted.
  GrammarExpr string(std::uint32_t min_length = 0, std::uint32_t max_length = kUnlimited);
  GrammarExpr integer(const NumberBounds& bounds = {});
  GrammarExpr number(const NumberBounds& bounds = {});
  GrammarExpr boolean();
  GrammarExpr null();
  GrammarExpr value();
  /// Any members.
  GrammarExpr object();
  GrammarExpr array();
  /// A key in quotes, written without escapes, that is none of `taken`.
  GrammarExpr other_key(const std::vector<std::string>& taken);
  /// `key: value`. `key` with its quotes.
  GrammarExpr member(GrammarExpr key, GrammarExpr value);
  /// What comes between `open` and `close`: from `min` to `max` of `item`, with commas.
  GrammarExpr list(char open, GrammarExpr item, std::uint32_t min, std::uint32_t max, char close);
  /// A comma and the space behind it.
  GrammarExpr comma();

 private:
  GrammarExpr make_character();
  GrammarExpr once(std::optional<GrammarRule>& rule, GrammarExpr (JsonText::*make)());
  GrammarExpr make_space();
  GrammarExpr make_string();
  GrammarExpr make_value();
  GrammarExpr make_object();
  GrammarExpr make_array();
  GrammarExpr make_number();
  GrammarExpr make_integer();

  GrammarBuilder& builder_;
  const bool angles_;
  std::optional<GrammarRule> space_, character_, string_, value_, object_, array_, number_, integer_;
};

/// The integers from lo to hi in decimal, lo ≥ 0.
GrammarExpr natural_range(GrammarBuilder& builder, std::int64_t lo, std::int64_t hi);

}  // namespace inferd
