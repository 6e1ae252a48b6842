// Cutting by pattern or by character class, with the five behaviours of tokenizer.json.
#include "engine/text/pre_tokenizer.h"

#include "base/utf8.h"
#include "engine/text/unicode.h"

namespace inferd {
namespace {

struct Part {
  std::size_t begin, end;
  bool match;
};

/// Turns alternating matches and gaps of one word into words.
void emit(const std::vector<Part>& parts, SplitBehavior behavior, std::vector<Span>* out) {
  const std::size_t first = out->size();
  bool previous_match = false;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Part& part = parts[i];
    const bool has_previous = out->size() > first;
    switch (behavior) {
      case SplitBehavior::removed:
        if (!part.match) out->emplace_back(part.begin, part.end);
        break;
      case SplitBehavior::isolated:
        out->emplace_back(part.begin, part.end);
        break;
      case SplitBehavior::contiguous:
        if (has_previous && part.match == previous_match) {
          out->back().second = part.end;
        } else {
          out->emplace_back(part.begin, part.end);
        }
        break;
      case SplitBehavior::merged_with_previous:
        if (has_previous && part.match && !previous_match) {
          out->back().second = part.end;
        } else {
          out->emplace_back(part.begin, part.end);
        }
        break;
      case SplitBehavior::merged_with_next:
        // A match joins the gap after it; a match before a match stands alone.
        if (has_previous && previous_match && !part.match) {
          out->back().second = part.end;
        } else {
          out->emplace_back(part.begin, part.end);
        }
        break;
    }
    previous_match = part.match;
  }
}

/// Base of all splits: a subclass says where the matches in one word are.
class SplitStep : public PreTokenizerStep {
 public:
  SplitStep(SplitBehavior behavior, bool invert) : behavior_(behavior), invert_(invert) {}
  void apply(Words* words, bool) const override {
    std::vector<Span> out;
    out.reserve(words->text.size() / 4 + 4);
    std::vector<Span> matches;
    std::vector<Part> parts;
    const std::string_view text = words->text;
    for (const auto& [begin, end] : words->spans) {
      find(text.substr(begin, end - begin), &matches);
      parts.clear();
      std::size_t at = 0;
      for (const auto& [from, to] : matches) {
        if (from > at) parts.push_back({begin + at, begin + from, invert_});
        parts.push_back({begin + from, begin + to, !invert_});
        at = to;
      }
      if (begin + at < end) parts.push_back({begin + at, end, invert_});
      emit(parts, behavior_, &out);
    }
    words->spans = std::move(out);
  }

 protected:
  virtual void find(std::string_view text, std::vector<Span>* matches) const = 0;

 private:
  SplitBehavior behavior_;
  bool invert_;
};

class RegexSplitStep final : public SplitStep {
 public:
  RegexSplitStep(std::string_view pattern, SplitBehavior behavior, bool invert)
      : SplitStep(behavior, invert), regex_(pattern) {}

 protected:
  void find(std::string_view text, std::vector<Span>* matches) const override { regex_.find_all(text, matches); }

 private:
  Regex regex_;
};

class StringSplitStep final : public SplitStep {
 public:
  StringSplitStep(std::string text, SplitBehavior behavior, bool invert)
      : SplitStep(behavior, invert), text_(std::move(text)) {}

 protected:
  void find(std::string_view text, std::vector<Span>* matches) const override {
    matches->clear();
    if (text_.empty()) return;
    for (std::size_t at = text.find(text_); at != std::string_view::npos; at = text.find(text_, at + text_.size())) {
      matches->emplace_back(at, at + text_.size());
    }
  }

 private:
  std::string text_;
};

/// Every character of a class is a match of its own.
class CharacterSplitStep final : public SplitStep {
 public:
  CharacterSplitStep(bool (*is_match)(char32_t), SplitBehavior behavior)
      : SplitStep(behavior, false), is_match_(is_match) {}

 protected:
  void find(std::string_view text, std::vector<Span>* matches) const override {
    matches->clear();
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      if (is_match_(decode_utf8(text, &at))) matches->emplace_back(begin, at);
    }
  }

 private:
  bool (*is_match_)(char32_t);
};

/// Writes each word anew, possibly changed.
template <typename Rewrite>
void rewrite_words(Words* words, Rewrite&& rewrite) {
  Words out;
  out.text.reserve(words->text.size() + words->spans.size());
  out.spans.reserve(words->spans.size());
  const std::string_view text = words->text;
  for (const auto& [begin, end] : words->spans) {
    const std::size_t start = out.text.size();
    rewrite(text.substr(begin, end - begin), begin, &out.text);
    out.spans.emplace_back(start, out.text.size());
  }
  *words = std::move(out);
}

class PrefixSpaceStep final : public PreTokenizerStep {
 public:
  void apply(Words* words, bool) const override {
    rewrite_words(words, [](std::string_view word, std::size_t, std::string* out) {
      if (!word.starts_with(' ')) out->push_back(' ');
      out->append(word);
    });
  }
};

class MetaspaceStep final : public PreTokenizerStep {
 public:
  MetaspaceStep(std::string replacement, PrefixScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme) {
    if (split) split_ = make_string_split_step(replacement_, SplitBehavior::merged_with_next, false);
  }
  void apply(Words* words, bool first) const override {
    rewrite_words(words, [&](std::string_view word, std::size_t begin, std::string* out) {
      const bool wanted = scheme_ == PrefixScheme::always || (scheme_ == PrefixScheme::first && first && begin == 0);
      if (wanted && !word.starts_with(' ') && !word.starts_with(replacement_)) out->append(replacement_);
      for (const char c : word) {
        if (c == ' ') {
          out->append(replacement_);
        } else {
          out->push_back(c);
        }
      }
    });
    if (split_ != nullptr) split_->apply(words, first);
  }

 private:
  std::string replacement_;
  PrefixScheme scheme_;
  std::unique_ptr<const PreTokenizerStep> split_;
};

}  // namespace

std::unique_ptr<PreTokenizerStep> make_regex_split_step(std::string_view pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<RegexSplitStep>(pattern, behavior, invert);
}
std::unique_ptr<PreTokenizerStep> make_string_split_step(std::string text, SplitBehavior behavior, bool invert) {
  return std::make_unique<StringSplitStep>(std::move(text), behavior, invert);
}
std::unique_ptr<PreTokenizerStep> make_digits_step(bool individual) {
  return std::make_unique<CharacterSplitStep>(is_number,
                                              individual ? SplitBehavior::isolated : SplitBehavior::contiguous);
}
std::unique_ptr<PreTokenizerStep> make_punctuation_step(SplitBehavior behavior) {
  return std::make_unique<CharacterSplitStep>(is_punctuation, behavior);
}
std::unique_ptr<PreTokenizerStep> make_whitespace_split_step() {
  return std::make_unique<CharacterSplitStep>(is_white_space, SplitBehavior::removed);
}
std::unique_ptr<PreTokenizerStep> make_prefix_space_step() { return std::make_unique<PrefixSpaceStep>(); }
std::unique_ptr<PreTokenizerStep> make_metaspace_step(std::string replacement, PrefixScheme scheme, bool split) {
  return std::make_unique<MetaspaceStep>(std::move(replacement), scheme, split);
}

}  // namespace inferd
