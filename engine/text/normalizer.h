// Normalizer: the steps that rewrite text before it is cut into words.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/charsmap.h"
#include "engine/text/unicode.h"

namespace inferd {

/// Text while it is rewritten. Where `trusted` is not empty it has one byte per byte of text: 1 if all the source bytes
/// it came from were trusted. It is kept only for tokenizers that match added tokens after normalisation.
struct NormalizedText {
  std::string text;
  std::string trusted;
  bool tracks_trust() const { return !trusted.empty(); }
};

/// One rewriting step. Immutable and thread-safe.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  /// `first`: the text starts the whole input (it does not follow a control token).
  virtual void apply(NormalizedText* text, bool first) const = 0;
};

using Normalizer = std::vector<std::unique_ptr<const NormalizerStep>>;

struct BertNormalizerOptions {
  bool clean_text = true, handle_chinese_chars = true, strip_accents = true, lowercase = true;
};

/// When "▁" goes in front of a text.
enum class PrefixScheme { always, first, never };

struct SentencePieceNormalizerOptions {
  std::unique_ptr<const Charsmap> charsmap;  // null: identity
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  PrefixScheme dummy_prefix = PrefixScheme::always;
};

std::unique_ptr<NormalizerStep> make_form_step(NormalForm form);
std::unique_ptr<NormalizerStep> make_lowercase_step();
std::unique_ptr<NormalizerStep> make_strip_accents_step();
std::unique_ptr<NormalizerStep> make_bert_step(const BertNormalizerOptions& options);
std::unique_ptr<NormalizerStep> make_prepend_step(std::string prefix);
std::unique_ptr<NormalizerStep> make_append_step(std::string suffix);
/// Replaces every occurrence; `is_regex`: `pattern` is a regular expression. Throws std::invalid_argument.
std::unique_ptr<NormalizerStep> make_replace_step(std::string pattern, bool is_regex, std::string with);
std::unique_ptr<NormalizerStep> make_strip_step(bool left, bool right);
std::unique_ptr<NormalizerStep> make_charsmap_step(Charsmap charsmap);
/// All of what SentencePiece does to a text (its normalizer_spec).
std::unique_ptr<NormalizerStep> make_sentencepiece_step(SentencePieceNormalizerOptions options);

}  // namespace inferd
