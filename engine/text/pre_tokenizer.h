// PreTokenizer: the steps that cut normalised text into the words a model encodes one by one.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/normalizer.h"
#include "engine/text/regex.h"

namespace inferd {

using Span = std::pair<std::size_t, std::size_t>;

/// A text and the words in it, in order; bytes between words are dropped.
struct Words {
  std::string text;
  std::vector<Span> spans;
};

/// One cutting step. Immutable and thread-safe.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  /// `first`: the text starts the whole input.
  virtual void apply(Words* words, bool first) const = 0;
};

using PreTokenizer = std::vector<std::unique_ptr<const PreTokenizerStep>>;

/// What happens to the matches of a pattern.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// `pattern` is a regular expression. Throws std::invalid_argument.
std::unique_ptr<PreTokenizerStep> make_regex_split_step(std::string_view pattern, SplitBehavior behavior, bool invert);
std::unique_ptr<PreTokenizerStep> make_string_split_step(std::string text, SplitBehavior behavior, bool invert);
std::unique_ptr<PreTokenizerStep> make_digits_step(bool individual);
std::unique_ptr<PreTokenizerStep> make_punctuation_step(SplitBehavior behavior);
std::unique_ptr<PreTokenizerStep> make_whitespace_split_step();
/// Puts a space in front of every word that does not start with one.
std::unique_ptr<PreTokenizerStep> make_prefix_space_step();
/// Spaces become `replacement`, one more goes in front by `scheme`; `split`: cut before each.
std::unique_ptr<PreTokenizerStep> make_metaspace_step(std::string replacement, PrefixScheme scheme, bool split);

}  // namespace inferd
