// Regex: PCRE2 over valid UTF-8, for patterns that come from tokenizer files.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace inferd {

/// A compiled pattern. Immutable and thread-safe. Uses the JIT where the system lets it.
class Regex {
 public:
  /// `pattern` is in the syntax tokenizer.json uses (Oniguruma's Ruby syntax). Throws std::invalid_argument saying what
  /// is wrong or not supported.
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Begin and end of all non-empty matches in `text`, left to right. Throws std::runtime_error if the pattern needs
  /// more backtracking than its limit (which grows with the text, so that linear patterns never meet it).
  void find_all(std::string_view text, std::vector<std::pair<std::size_t, std::size_t>>* matches) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

/// The pattern in PCRE2's syntax with the same meaning: nested character sets are flattened, and \s, \w, \h mean what
/// they mean in Oniguruma. Throws std::invalid_argument for what cannot be carried over.
std::string translate_oniguruma(std::string_view pattern);

}  // namespace inferd
