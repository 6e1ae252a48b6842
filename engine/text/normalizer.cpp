// The normalizer steps of tokenizer.json.
#include "engine/text/normalizer.h"

#include <utility>

#include "base/utf8.h"
#include "engine/text/regex.h"
#include "engine/text/text_rewriter.h"

namespace inferd {
namespace {

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

/// Unicode forms. Works on stretches of non-ASCII text, each with the ASCII character before it if its first character
/// could combine with that one; ASCII is in every form already.
class FormStep final : public NormalizerStep {
 public:
  explicit FormStep(NormalForm form) : form_(form) {}
  void apply(NormalizedText* text, bool) const override {
    if (is_ascii(text->text)) return;
    TextRewriter rewriter(text);
    const std::string_view source = rewriter.source();
    std::string normal;
    for (std::size_t at = 0; at < source.size();) {
      std::size_t begin = at;
      while (begin < source.size() && static_cast<unsigned char>(source[begin]) < 0x80) ++begin;
      std::size_t end = begin;
      while (end < source.size() && static_cast<unsigned char>(source[end]) >= 0x80) ++end;
      if (begin > at && begin < end) {
        std::size_t peek = begin;
        if (combining_class(decode_utf8(source, &peek)) != 0) --begin;
      }
      rewriter.keep(at, begin);
      normal.clear();
      append_normal_form(&normal, source.substr(begin, end - begin), form_);
      if (normal == source.substr(begin, end - begin)) {
        rewriter.keep(begin, end);
      } else {
        rewriter.replace(begin, end, normal);
      }
      at = end;
    }
    rewriter.commit();
  }

 private:
  NormalForm form_;
};

class LowercaseStep final : public NormalizerStep {
 public:
  void apply(NormalizedText* text, bool) const override {
    TextRewriter rewriter(text);
    std::string lower;
    rewriter.each_character([&](char32_t c, std::size_t begin, std::size_t end) {
      lower.clear();
      append_lowercase(&lower, c);
      rewriter.replace(begin, end, lower);
    });
    rewriter.commit();
  }
};

/// Drops marks. BERT drops the non-spacing ones only, the step of that name all of them.
class StripAccentsStep final : public NormalizerStep {
 public:
  explicit StripAccentsStep(bool (*is_accent)(char32_t)) : is_accent_(is_accent) {}
  void apply(NormalizedText* text, bool) const override {
    if (is_ascii(text->text)) return;
    TextRewriter rewriter(text);
    rewriter.each_character([&](char32_t c, std::size_t begin, std::size_t end) {
      if (!is_accent_(c)) rewriter.keep(begin, end);
    });
    rewriter.commit();
  }

 private:
  bool (*is_accent_)(char32_t);
};

class BertStep final : public NormalizerStep {
 public:
  explicit BertStep(const BertNormalizerOptions& options)
      : options_(options), decompose_(NormalForm::nfd), strip_(is_nonspacing_mark) {}
  void apply(NormalizedText* text, bool first) const override {
    if (options_.clean_text) clean(text);
    if (options_.handle_chinese_chars) space_ideographs(text);
    if (options_.strip_accents) {
      decompose_.apply(text, first);
      strip_.apply(text, first);
    }
    if (options_.lowercase) lowercase_.apply(text, first);
  }

 private:
  static void clean(NormalizedText* text) {
    TextRewriter rewriter(text);
    rewriter.each_character([&](char32_t c, std::size_t begin, std::size_t end) {
      const bool line = c == '\t' || c == '\n' || c == '\r';
      if (c == 0 || c == 0xFFFD || (!line && is_control_category(c))) return;
      if (line || is_white_space(c)) {
        rewriter.replace(begin, end, " ");
      } else {
        rewriter.keep(begin, end);
      }
    });
    rewriter.commit();
  }
  static void space_ideographs(NormalizedText* text) {
    if (is_ascii(text->text)) return;
    TextRewriter rewriter(text);
    rewriter.each_character([&](char32_t c, std::size_t begin, std::size_t end) {
      if (is_cjk_ideograph(c)) {
        std::string spaced(1, ' ');
        spaced.append(rewriter.source().substr(begin, end - begin)).append(1, ' ');
        rewriter.replace(begin, end, spaced);
      } else {
        rewriter.keep(begin, end);
      }
    });
    rewriter.commit();
  }
  BertNormalizerOptions options_;
  FormStep decompose_;
  StripAccentsStep strip_;
  LowercaseStep lowercase_;
};

class AffixStep final : public NormalizerStep {
 public:
  AffixStep(std::string affix, bool front) : affix_(std::move(affix)), front_(front) {}
  void apply(NormalizedText* text, bool) const override {
    if (text->text.empty()) return;
    if (text->tracks_trust()) {
      const char mark = front_ ? text->trusted.front() : text->trusted.back();
      text->trusted.insert(front_ ? 0 : text->trusted.size(), affix_.size(), mark);
    }
    text->text.insert(front_ ? 0 : text->text.size(), affix_);
  }

 private:
  std::string affix_;
  bool front_;
};

class ReplaceStep final : public NormalizerStep {
 public:
  ReplaceStep(std::string pattern, bool is_regex, std::string with)
      : literal_(std::move(pattern)), with_(std::move(with)) {
    if (literal_.empty()) throw std::invalid_argument("empty pattern");
    if (is_regex) regex_ = std::make_unique<Regex>(literal_);
  }
  void apply(NormalizedText* text, bool) const override {
    std::vector<std::pair<std::size_t, std::size_t>> matches;
    if (regex_ != nullptr) {
      regex_->find_all(text->text, &matches);
    } else {
      for (std::size_t at = text->text.find(literal_); at != std::string::npos;
           at = text->text.find(literal_, at + literal_.size())) {
        matches.emplace_back(at, at + literal_.size());
      }
    }
    if (matches.empty()) return;
    TextRewriter rewriter(text);
    std::size_t at = 0;
    for (const auto& [begin, end] : matches) {
      rewriter.keep(at, begin);
      rewriter.replace(begin, end, with_);
      at = end;
    }
    rewriter.keep(at, rewriter.source().size());
    rewriter.commit();
  }

 private:
  std::string literal_;
  std::string with_;
  std::unique_ptr<const Regex> regex_;
};

class StripStep final : public NormalizerStep {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalizedText* text, bool) const override {
    std::size_t begin = std::string::npos;
    std::size_t end = 0;
    TextRewriter rewriter(text);
    rewriter.each_character([&](char32_t c, std::size_t from, std::size_t to) {
      if (is_white_space(c)) return;
      if (begin == std::string::npos) begin = from;
      end = to;
    });
    const std::size_t size = rewriter.source().size();
    if (begin == std::string::npos) begin = end = left_ ? size : 0;  // nothing but white space
    rewriter.keep(left_ ? begin : 0, right_ ? end : size);
    rewriter.commit();
  }

 private:
  bool left_, right_;
};

class CharsmapStep final : public NormalizerStep {
 public:
  explicit CharsmapStep(Charsmap charsmap) : charsmap_(std::move(charsmap)) {}
  void apply(NormalizedText* text, bool) const override {
    TextRewriter rewriter(text);
    const std::string_view source = rewriter.source();
    for (std::size_t at = 0; at < source.size();) {
      std::size_t end = at;
      if (const auto rule = charsmap_.longest(source.substr(at))) {
        end = at + rule->first;
        rewriter.replace(at, end, rule->second);
      } else {
        decode_utf8(source, &end);
        rewriter.keep(at, end);
      }
      at = end;
    }
    rewriter.commit();
  }

 private:
  Charsmap charsmap_;
};

}  // namespace

std::unique_ptr<NormalizerStep> make_form_step(NormalForm form) { return std::make_unique<FormStep>(form); }
std::unique_ptr<NormalizerStep> make_lowercase_step() { return std::make_unique<LowercaseStep>(); }
std::unique_ptr<NormalizerStep> make_strip_accents_step() { return std::make_unique<StripAccentsStep>(is_mark); }
std::unique_ptr<NormalizerStep> make_bert_step(const BertNormalizerOptions& options) {
  return std::make_unique<BertStep>(options);
}
std::unique_ptr<NormalizerStep> make_prepend_step(std::string prefix) {
  return std::make_unique<AffixStep>(std::move(prefix), true);
}
std::unique_ptr<NormalizerStep> make_append_step(std::string suffix) {
  return std::make_unique<AffixStep>(std::move(suffix), false);
}
std::unique_ptr<NormalizerStep> make_replace_step(std::string pattern, bool is_regex, std::string with) {
  return std::make_unique<ReplaceStep>(std::move(pattern), is_regex, std::move(with));
}
std::unique_ptr<NormalizerStep> make_strip_step(bool left, bool right) {
  return std::make_unique<StripStep>(left, right);
}
std::unique_ptr<NormalizerStep> make_charsmap_step(Charsmap charsmap) {
  return std::make_unique<CharsmapStep>(std::move(charsmap));
}

}  // namespace inferd
