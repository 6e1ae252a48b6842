// Patterns: a parser that makes the expression on the way.
#include "engine/grammar/pattern.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace inferd {
namespace {

using Range = std::pair<std::uint32_t, std::uint32_t>;
using Ranges = std::vector<Range>;

constexpr std::size_t kMostBytes = 2048;
constexpr int kMostNesting = 24;
constexpr std::uint32_t kMostRepeats = 1000;  // of all counted repetitions within each other
constexpr std::uint32_t kLastCodePoint = 0x10FFFF;

const Ranges kDigit = {{'0', '9'}};
const Ranges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpace = {{'\t', '\r'}, {' ', ' '}};
// What one flavour or another takes for a space, a digit or a letter beyond ASCII is in no class, nor in its opposite.
const Ranges kNotDigit = {{0, '0' - 1}, {'9' + 1, 0x7F}};
const Ranges kNotWord = {{0, '0' - 1}, {'9' + 1, 'A' - 1}, {'Z' + 1, '_' - 1}, {'`', '`'}, {'z' + 1, 0x7F}};
const Ranges kNotSpace = {
    {0, 8},           {14, 27},         {33, 0x7F},       {0xA1, 0x167F},   {0x1681, 0x1FFF},        {0x200B, 0x2027},
    {0x202A, 0x202E}, {0x2030, 0x205E}, {0x2060, 0x2FFF}, {0x3001, 0xFEFE}, {0xFF00, kLastCodePoint}};
const Ranges kDot = {{0, '\n' - 1}, {'\n' + 1, '\r' - 1}, {'\r' + 1, 0x84}, {0x86, 0x2027}, {0x202A, kLastCodePoint}};
const Ranges kAny = {{0, kLastCodePoint}};

Ranges complement(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end());
  Ranges out;
  std::uint32_t next = 0;
  for (const auto& [lo, hi] : ranges) {
    if (lo > next) out.emplace_back(next, lo - 1);
    next = std::max(next, hi + 1);
  }
  if (next <= kLastCodePoint) out.emplace_back(next, kLastCodePoint);
  return out;
}

Ranges without(const Ranges& ranges, const Ranges& taken) {
  Ranges all = complement(ranges);
  all.insert(all.end(), taken.begin(), taken.end());
  return complement(std::move(all));
}

class Parser {
 public:
  Parser(GrammarBuilder& builder, std::string_view pattern, StringForm form)
      : builder_(builder), text_(pattern), form_(form) {}

  GrammarExpr pattern() {
    if (text_.size() > kMostBytes) fail("it is longer than " + std::to_string(kMostBytes) + " bytes");
    if (!is_valid_utf8(text_)) fail("it is not UTF-8");
    std::vector<GrammarExpr> forms;
    do {
      const bool from_start = take("^");
      GrammarExpr inner = alternative(0, 1);
      const bool to_end = take("$");
      if (at_ < text_.size() && text_[at_] != '|') fail("'" + rest() + "' is not expected");
      std::vector<GrammarExpr> parts;
      if (!from_start) parts.push_back(builder_.star(character(kAny)));
      parts.push_back(inner);
      if (!to_end) parts.push_back(builder_.star(character(kAny)));
      forms.push_back(builder_.sequence(std::move(parts)));
    } while (take("|"));
    return builder_.choice(std::move(forms));
  }

 private:
  [[noreturn]] static void fail(const std::string& message) { throw PatternError(message); }
  std::string rest() const { return std::string(text_.substr(at_, 1)); }
  bool more() const { return at_ < text_.size(); }
  bool take(std::string_view what) {
    if (!text_.substr(std::min(at_, text_.size())).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }

  /// One of the characters, as strings are written here.
  GrammarExpr character(const Ranges& ranges) {
    if (form_ == StringForm::bare) {
      const bool named = ranges.size() == 1 && ranges[0].first == ranges[0].second;
      return builder_.code_points(named ? ranges : without(ranges, {{'<', '<'}, {0, 8}, {14, 31}}));
    }
    std::vector<GrammarExpr> forms;
    std::vector<std::string> escapes;
    const auto holds = [&](std::uint32_t c) {
      return std::any_of(ranges.begin(), ranges.end(), [c](const Range& r) { return c >= r.first && c <= r.second; });
    };
    for (std::uint32_t c = 0; c <= '\\'; ++c) {
      const bool angle = c == '<' && form_ == StringForm::json_without_angles;
      if ((c < 0x20 || c == '"' || c == '\\' || angle) && holds(c)) escapes.push_back(escaped(c));
    }
    if (!escapes.empty()) forms.push_back(builder_.one_of(escapes));
    Ranges special = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    if (form_ == StringForm::json_without_angles) special.emplace_back('<', '<');
    const Ranges plain = without(ranges, special);
    if (!plain.empty()) forms.push_back(builder_.code_points(plain));
    return builder_.choice(std::move(forms));
  }

  static std::string escaped(std::uint32_t c) {
    constexpr std::string_view kNamed = "\b\f\n\r\t\"\\", kNames = "bfnrt\"\\";
    const std::size_t named = kNamed.find(static_cast<char>(c));
    if (named != std::string_view::npos) return {'\\', kNames[named]};
    constexpr std::string_view kHex = "0123456789abcdef";
    return {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
  }

  GrammarExpr choice(int depth, std::uint32_t repeats) {
    if (depth > kMostNesting) fail("groups are nested too deeply");
    std::vector<GrammarExpr> forms;
    do {
      forms.push_back(alternative(depth, repeats));
    } while (take("|"));
    return builder_.choice(std::move(forms));
  }

  GrammarExpr alternative(int depth, std::uint32_t repeats) {
    std::vector<GrammarExpr> parts;
    while (more() && text_[at_] != '|' && text_[at_] != ')' && !(depth == 0 && text_[at_] == '$')) {
      parts.push_back(piece(depth, repeats));
    }
    return builder_.sequence(std::move(parts));
  }

  struct Quantifier {
    std::uint32_t min = 1, max = 1;
  };

  /// An atom with what is behind it. What repeats an atom is needed before it is read, as limits multiply.
  GrammarExpr piece(int depth, std::uint32_t repeats) {
    const std::size_t begin = at_;
    const std::size_t behind_atom = skip_atom();
    const Quantifier times = quantifier();
    const std::size_t end = at_;
    at_ = begin;
    const std::uint32_t most = std::max(times.max == kUnlimited ? times.min : times.max, 1u);
    if (most > kMostRepeats || most * repeats > kMostRepeats) {
      fail("counted repetitions come to more than " + std::to_string(kMostRepeats));
    }
    const GrammarExpr inner = atom(depth, most * repeats);
    if (at_ != behind_atom) fail("'" + rest() + "' is not expected");
    at_ = end;
    return builder_.repeat(inner, times.min, times.max);
  }

  /// Moves behind the atom that begins here; returns where that is.
  std::size_t skip_atom() {
    int open = 0;
    bool in_class = false;
    do {
      if (!more()) fail(in_class ? "a class has no end" : "a group has no end");
      const char c = text_[at_];
      if (c == '\\') {
        at_ = std::min(at_ + 1 + escape_size(), text_.size());
        continue;
      }
      ++at_;
      while (more() && (static_cast<unsigned char>(text_[at_]) & 0xC0) == 0x80) ++at_;
      if (in_class) {
        in_class = c != ']';
      } else if (c == '[') {
        in_class = true;
        if (more() && text_[at_] == '^') ++at_;
        if (more() && text_[at_] == ']') ++at_;
      } else if (c == '(') {
        ++open;
      } else if (c == ')') {
        --open;
      }
    } while (open > 0 || in_class);
    return at_;
  }

  /// Bytes of the escape behind the backslash at at_.
  std::size_t escape_size() const {
    const std::string_view after = text_.substr(at_ + 1);
    if (after.starts_with('x')) return 3;
    if (after.starts_with("u{")) return std::min(after.find('}'), after.size() - 1) + 1;
    return after.starts_with('u') ? 5 : 1;
  }

  Quantifier quantifier() {
    Quantifier out;
    if (take("*")) {
      out = {0, kUnlimited};
    } else if (take("+")) {
      out = {1, kUnlimited};
    } else if (take("?")) {
      out = {0, 1};
    } else if (const auto counts = braces()) {
      out = *counts;
    } else {
      return out;
    }
    take("?");
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?' || braces())) {
      fail("a quantifier follows a quantifier");
    }
    return out;
  }

  /// {m}, {m,} or {m,n}.
  std::optional<Quantifier> braces() {
    const std::size_t begin = at_;
    if (!take("{")) return std::nullopt;
    const auto min = number();
    std::optional<Quantifier> out;
    if (min && take("}")) {
      out = Quantifier{*min, *min};
    } else if (min && take(",")) {
      const auto max = number();
      if (take("}")) out = Quantifier{*min, max.value_or(kUnlimited)};
    }
    if (!out) at_ = begin;
    if (out && out->max < out->min) fail("a quantifier's limits are the wrong way round");
    return out;
  }

  std::optional<std::uint32_t> number() {
    std::optional<std::uint32_t> out;
    for (; more() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      out = std::min<std::uint32_t>(out.value_or(0) * 10 + static_cast<std::uint32_t>(text_[at_] - '0'), 1'000'000);
    }
    return out;
  }

  GrammarExpr atom(int depth, std::uint32_t repeats) {
    const char c = text_[at_];
    if (c == '(') return group(depth, repeats);
    if (c == '[') return character(char_class());
    if (c == '\\') return character(escape());
    if (c == '.') {
      ++at_;
      return character(kDot);
    }
    if (c == '*' || c == '+' || c == '?') fail("a quantifier has nothing to repeat");
    if (c == '^' || c == '$') fail(std::string("'") + c + "' is supported at the ends of the pattern only");
    const std::uint32_t code = code_point();
    return character({{code, code}});
  }

  GrammarExpr group(int depth, std::uint32_t repeats) {
    ++at_;
    if (take("?")) {
      if (!take(":")) {
        if (!take("P<") && !(take("<") && more() && text_[at_] != '=' && text_[at_] != '!')) {
          fail("groups that begin with '(?' other than '(?:' are not supported");
        }
        at_ = std::min(text_.find('>', at_), text_.size() - 1) + 1;  // a name
      }
    }
    const GrammarExpr inner = choice(depth + 1, repeats);
    if (!take(")")) fail("a group has no end");
    return inner;
  }

  std::uint32_t code_point() { return static_cast<std::uint32_t>(decode_utf8(text_, &at_)); }

  Ranges char_class() {
    ++at_;
    const bool negated = take("^");
    Ranges out;
    for (bool first = true; first || (more() && text_[at_] != ']'); first = false) {
      if (!more()) fail("a class has no end");
      const Ranges low = text_[at_] == '\\' ? escape() : single();
      const bool one = low.size() == 1 && low[0].first == low[0].second;
      const bool dash = text_.substr(at_).size() > 1 && text_[at_] == '-' && text_[at_ + 1] != ']';
      if (!dash) {
        out.insert(out.end(), low.begin(), low.end());
        continue;
      }
      ++at_;
      const Ranges high = text_[at_] == '\\' ? escape() : single();
      if (!one || high.size() != 1 || high[0].first != high[0].second || high[0].first < low[0].first) {
        fail("a class has a range without a beginning and an end");
      }
      out.emplace_back(low[0].first, high[0].first);
    }
    if (!take("]")) fail("a class has no end");
    return negated ? complement(std::move(out)) : out;
  }

  Ranges single() {
    const std::uint32_t code = code_point();
    return {{code, code}};
  }

  Ranges escape() {
    ++at_;
    if (!more()) fail("it ends in a backslash");
    const char c = text_[at_++];
    switch (c) {
      case 'd':
        return kDigit;
      case 'D':
        return kNotDigit;
      case 'w':
        return kWord;
      case 'W':
        return kNotWord;
      case 's':
        return kSpace;
      case 'S':
        return kNotSpace;
      case 'x':
        return hex(2);
      case 'u':
        if (take("{")) fail("'\\u{' is not supported");
        return hex(4);
      default:
        break;
    }
    constexpr std::string_view kNames = "tnrfv", kCodes = "\t\n\r\f\v";
    if (const std::size_t i = kNames.find(c); i != std::string_view::npos) {
      const std::uint32_t code = static_cast<unsigned char>(kCodes[i]);
      return {{code, code}};
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || static_cast<unsigned char>(c) >= 0x80) fail(std::string("'\\") + c + "' is not supported");
    const std::uint32_t code = static_cast<unsigned char>(c);
    return {{code, code}};
  }

  Ranges hex(int digits) {
    std::uint32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
      const std::size_t digit = more() ? kDigits.find(text_[at_++]) : std::string_view::npos;
      if (digit == std::string_view::npos) fail("an escape has too few hexadecimal digits");
      code = code * 16 + static_cast<std::uint32_t>(digit > 15 ? digit - 6 : digit);
    }
    if (code >= 0xD800 && code <= 0xDFFF) fail("an escape names half a surrogate pair");
    return {{code, code}};
  }

  GrammarBuilder& builder_;
  const std::string_view text_;
  const StringForm form_;
  std::size_t at_ = 0;
};

struct Format {
  std::string_view name, pattern;
};

// As OpenAI's structured outputs name them. Each is a part of what its specification allows: no leap days and seconds,
// no abbreviated IPv6 addresses.
#define INFERD_DATE                                                                                                    \
  "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-" \
  "9]|1["                                                                                                              \
  "0-9]|2[0-8])))"
#define INFERD_TIME \
  "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
#define INFERD_OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define INFERD_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
constexpr Format kFormats[] = {
    {"date", "^" INFERD_DATE "$"},
    {"time", "^" INFERD_TIME "$"},
    {"date-time", "^" INFERD_DATE "T" INFERD_TIME "$"},
    {"duration",
     "^P(?:(?:[0-9]{1,6}Y(?:[0-9]{1,6}M(?:[0-9]{1,6}D)?)?|[0-9]{1,6}M(?:[0-9]{1,6}D)?|[0-9]{1,6}D)"
     "(?:T(?:[0-9]{1,6}H(?:[0-9]{1,6}M(?:[0-9]{1,6}S)?)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S))?"
     "|T(?:[0-9]{1,6}H(?:[0-9]{1,6}M(?:[0-9]{1,6}S)?)?|[0-9]{1,6}M(?:[0-9]{1,6}S)?|[0-9]{1,6}S)|[0-9]{1,6}W)$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"email", "^[A-Za-z0-9_%+-]+(?:\\.[A-Za-z0-9_%+-]+)*@" INFERD_LABEL "(?:\\." INFERD_LABEL ")+$"},
    {"hostname", "^" INFERD_LABEL "(?:\\." INFERD_LABEL "){0,3}$"},
    {"ipv4", "^" INFERD_OCTET "(?:\\." INFERD_OCTET "){3}$"},
    {"ipv6", "^[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){7}$"},
};
#undef INFERD_DATE
#undef INFERD_TIME
#undef INFERD_OCTET
#undef INFERD_LABEL

}  // namespace

GrammarExpr pattern_text(GrammarBuilder& builder, std::string_view pattern, StringForm form) {
  return Parser(builder, pattern, form).pattern();
}

std::string_view format_pattern(std::string_view format) {
  const auto* found =
      std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Format& f) { return f.name == format; });
  return found == std::end(kFormats) ? std::string_view() : found->pattern;
}

}  // namespace inferd
