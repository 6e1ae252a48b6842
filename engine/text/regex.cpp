// Translation from Oniguruma's syntax, and matching with bounds.
#include "engine/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

namespace inferd {
namespace {

// White_Space without U+180E, which PCRE2's own \s still counts in.
constexpr std::string_view kSpace = "\\x09-\\x0d\\x{85}\\p{Z}";
constexpr std::string_view kWord = "\\p{L}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr std::size_t kMaxPatternBytes = 64 << 10;

std::string translate_escape(char c, bool in_set) {
  std::string_view set;
  switch (c) {
    case 's':
    case 'S':
      set = kSpace;
      break;
    case 'w':
    case 'W':
      set = kWord;
      break;
    case 'h':
    case 'H':
      set = kHex;
      break;
    default:
      return std::string("\\") + c;
  }
  const bool negated = c < 'a';
  if (!in_set) return (negated ? "[^" : "[") + std::string(set) + "]";
  if (!negated) return std::string(set);
  if (c == 'S' || c == 'W') return std::string("\\") + c;
  throw std::invalid_argument("\\H inside a character set is not supported");
}

}  // namespace

std::string translate_oniguruma(std::string_view pattern) {
  std::string out;
  int depth = 0;             // of nested sets
  bool set_is_open = false;  // right after "[" or "[^", where "]" is a character
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (++i == pattern.size()) throw std::invalid_argument("pattern ends in a backslash");
      out += translate_escape(pattern[i], depth > 0);
      set_is_open = false;
      continue;
    }
    if (depth == 0) {
      out += c;
      if (c != '[') continue;
      depth = 1;
      set_is_open = true;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      continue;
    }
    if (c == '[' && pattern.substr(i).starts_with("[:")) {
      const std::size_t end = pattern.find(":]", i);
      if (end == std::string_view::npos) throw std::invalid_argument("unfinished [: :] in a character set");
      out += pattern.substr(i, end + 2 - i);
      i = end + 1;
    } else if (c == '[') {
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') {
        throw std::invalid_argument("a negated set inside a character set is not supported");
      }
      ++depth;
    } else if (c == ']' && !set_is_open) {
      if (--depth == 0) out += c;
    } else if (c == '&' && pattern.substr(i).starts_with("&&")) {
      throw std::invalid_argument("&& inside a character set is not supported");
    } else {
      out += c;
    }
    set_is_open = false;
  }
  if (depth > 0) throw std::invalid_argument("unfinished character set");
  return out;
}

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern) : compiled_(std::make_unique<Compiled>()) {
  if (pattern.size() > kMaxPatternBytes) throw std::invalid_argument("pattern longer than 64 KiB");
  const std::string translated = translate_oniguruma(pattern);
  std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 64);
  int error = 0;
  PCRE2_SIZE at = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get());
  if (compiled_->code == nullptr) {
    PCRE2_UCHAR message[160] = {};
    pcre2_get_error_message(error, message, sizeof message);
    throw std::invalid_argument(std::string(reinterpret_cast<const char*>(message)) + " at byte " + std::to_string(at));
  }
  // A hardened system refuses executable memory; matching then goes through the interpreter.
  (void)pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::find_all(std::string_view text, std::vector<std::pair<std::size_t, std::size_t>>* matches) const {
  matches->clear();
  if (text.empty()) return;
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr),
                                                                      pcre2_match_data_free);
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(pcre2_match_context_create(nullptr),
                                                                               pcre2_match_context_free);
  if (data == nullptr || context == nullptr) throw std::bad_alloc();
  const std::size_t limit =
      std::min<std::size_t>(10'000'000 + 16 * text.size(), std::numeric_limits<std::uint32_t>::max());
  pcre2_set_match_limit(context.get(), static_cast<std::uint32_t>(limit));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
  for (std::size_t at = 0; at < text.size();) {
    int result = pcre2_match(compiled_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = pcre2_match(compiled_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                           context.get());
    }
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0)
      throw std::runtime_error("the tokenizer's pattern failed on this text (PCRE2 " + std::to_string(result) + ")");
    if (range[1] > range[0]) {
      matches->emplace_back(range[0], range[1]);
      at = range[1];
    } else {
      at = std::max(at, static_cast<std::size_t>(range[1])) + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    }
  }
}

}  // namespace inferd
