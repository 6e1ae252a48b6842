// JsonText: numbers, with and without bounds.
#include <algorithm>

#include "engine/grammar/json_text.h"

namespace inferd {
namespace {

constexpr ByteRange kDigits{'0', '9'};
constexpr std::uint32_t kMostExponentDigits = 2;  // so that no number is beyond what a double holds

/// Numbers of as many digits as `lo` and `hi`, between them.
class DigitRange {
 public:
  explicit DigitRange(GrammarBuilder& builder) : builder_(builder) {}

  GrammarExpr between(const std::string& lo, const std::string& hi, std::size_t at = 0) {
    if (at == lo.size()) return builder_.empty();
    if (lo[at] == hi[at]) return builder_.sequence({digits(lo[at], lo[at]), between(lo, hi, at + 1)});
    std::vector<GrammarExpr> forms = {builder_.sequence({digits(lo[at], lo[at]), bound(lo, at + 1, true)}),
                                      builder_.sequence({digits(hi[at], hi[at]), bound(hi, at + 1, false)})};
    if (hi[at] - lo[at] > 1) forms.push_back(within(lo[at] + 1, hi[at] - 1, lo.size() - at - 1));
    return builder_.choice(std::move(forms));
  }

 private:
  GrammarExpr digits(int lo, int hi) {
    return builder_.bytes({{static_cast<std::uint8_t>(lo), static_cast<std::uint8_t>(hi)}});
  }
  /// A digit of [lo, hi], then any.
  GrammarExpr within(int lo, int hi, std::size_t more) {
    std::vector<GrammarExpr> parts(more, builder_.bytes({kDigits}));
    parts.insert(parts.begin(), digits(lo, hi));
    return builder_.sequence(std::move(parts));
  }
  /// At least (`from_below`) or at most what `number` has from `at`.
  GrammarExpr bound(const std::string& number, std::size_t at, bool from_below) {
    if (at == number.size()) return builder_.empty();
    std::vector<GrammarExpr> forms = {
        builder_.sequence({digits(number[at], number[at]), bound(number, at + 1, from_below)})};
    const std::size_t more = number.size() - at - 1;
    if (from_below && number[at] < '9') forms.push_back(within(number[at] + 1, '9', more));
    if (!from_below && number[at] > '0') forms.push_back(within('0', number[at] - 1, more));
    return builder_.choice(std::move(forms));
  }
  GrammarBuilder& builder_;
};

/// [lo, hi] of the integers on the side of zero that `negative` says, without signs; empty if lo > hi.
struct Naturals {
  std::int64_t lo = 0, hi = -1;
};

Naturals side(std::int64_t lo, std::int64_t hi, bool negative) {
  if (negative) return {std::max<std::int64_t>(1, -hi), -lo};
  return {std::max<std::int64_t>(0, lo), hi};
}

std::int64_t lower(const NumberBounds& bounds) { return std::max(bounds.min.value_or(-kMostInteger), -kMostInteger); }
std::int64_t upper(const NumberBounds& bounds) { return std::min(bounds.max.value_or(kMostInteger), kMostInteger); }

/// Numbers without an exponent whose size is from lo to hi. `open_*`: the bound itself is left out.
GrammarExpr decimals(GrammarBuilder& b, std::int64_t lo, bool open_lo, std::int64_t hi, bool open_hi) {
  const GrammarExpr digit = b.bytes({kDigits}), zero = b.literal("0");
  const GrammarExpr fraction = b.sequence({b.literal("."), b.repeat(digit, 1, kMostDigits)});
  const GrammarExpr nonzero = b.sequence(
      {b.literal("."), b.repeat(zero, 0, kMostDigits - 2), b.bytes({{'1', '9'}}), b.repeat(digit, 0, kMostDigits)});
  std::vector<GrammarExpr> forms;
  if (lo <= hi && !(lo == hi && (open_lo || open_hi))) {
    if (!open_lo) forms.push_back(natural_range(b, lo, lo));
    if (!open_hi) forms.push_back(natural_range(b, hi, hi));
  }
  if (lo < hi) forms.push_back(b.sequence({natural_range(b, lo, lo), open_lo ? nonzero : fraction}));
  if (lo + 1 < hi) forms.push_back(b.sequence({natural_range(b, lo + 1, hi - 1), b.optional(fraction)}));
  return b.choice(std::move(forms));
}

}  // namespace

GrammarExpr natural_range(GrammarBuilder& builder, std::int64_t lo, std::int64_t hi) {
  std::vector<GrammarExpr> forms;
  DigitRange range(builder);
  std::int64_t first = 0, beyond = 10;  // the numbers of so many digits; kMostDigits is such that beyond fits
  for (int digits = 1; digits <= kMostDigits; ++digits) {
    const std::int64_t from = std::max(lo, first), to = std::min(hi, beyond - 1);
    if (from <= to) forms.push_back(range.between(std::to_string(from), std::to_string(to)));
    first = beyond;
    if (digits < kMostDigits) beyond *= 10;
  }
  return builder.choice(std::move(forms));
}

GrammarExpr JsonText::make_integer() {
  const GrammarExpr more = builder_.repeat(builder_.bytes({kDigits}), 0, kMostDigits - 1);
  const GrammarExpr natural =
      builder_.choice({builder_.literal("0"), builder_.sequence({builder_.bytes({{'1', '9'}}), more})});
  return builder_.sequence({builder_.optional(builder_.literal("-")), natural});
}

GrammarExpr JsonText::make_number() {
  const GrammarExpr digit = builder_.bytes({kDigits});
  const GrammarExpr fraction = builder_.sequence({builder_.literal("."), builder_.repeat(digit, 1, kMostDigits)});
  const GrammarExpr exponent = builder_.sequence({builder_.bytes({{'e', 'e'}, {'E', 'E'}}),
                                                  builder_.optional(builder_.bytes({{'-', '-'}, {'+', '+'}})),
                                                  builder_.repeat(digit, 1, kMostExponentDigits)});
  return builder_.sequence({integer(), builder_.optional(fraction), builder_.optional(exponent)});
}

GrammarExpr JsonText::integer(const NumberBounds& bounds) {
  if (!bounds.min && !bounds.max) return once(integer_, &JsonText::make_integer);
  const std::int64_t lo = lower(bounds) + (bounds.min_excluded ? 1 : 0);
  const std::int64_t hi = upper(bounds) - (bounds.max_excluded ? 1 : 0);
  const Naturals below = side(lo, hi, true), above = side(lo, hi, false);
  return builder_.rule(
      builder_.choice({builder_.sequence({builder_.literal("-"), natural_range(builder_, below.lo, below.hi)}),
                       natural_range(builder_, above.lo, above.hi)}));
}

GrammarExpr JsonText::number(const NumberBounds& bounds) {
  if (!bounds.min && !bounds.max) return once(number_, &JsonText::make_number);
  const std::int64_t lo = lower(bounds), hi = upper(bounds);
  std::vector<GrammarExpr> forms;
  if (hi >= 0) {
    forms.push_back(
        decimals(builder_, std::max<std::int64_t>(lo, 0), lo >= 0 && bounds.min_excluded, hi, bounds.max_excluded));
  }
  if (lo < 0) {
    const bool reaches_zero = hi >= 0;  // zero itself is written without a sign
    forms.push_back(builder_.sequence(
        {builder_.literal("-"),
         decimals(builder_, reaches_zero ? 0 : -hi, reaches_zero || bounds.max_excluded, -lo, bounds.min_excluded)}));
  }
  return builder_.rule(builder_.choice(std::move(forms)));
}

}  // namespace inferd
