// SentencePiece's own normalisation: charsmap, white space, dummy prefix.
#include <utility>

#include "base/utf8.h"
#include "engine/text/normalizer.h"

namespace inferd {
namespace {

constexpr std::string_view kSpaceSymbol = "\u2581";

class SentencePieceStep final : public NormalizerStep {
 public:
  explicit SentencePieceStep(SentencePieceNormalizerOptions options) : options_(std::move(options)) {}

  void apply(NormalizedText* text, bool first) const override {
    const std::string_view space = options_.escape_whitespaces ? kSpaceSymbol : std::string_view(" ");
    std::string_view rest = text->text;
    const auto next = [&] {
      if (options_.charsmap != nullptr) {
        if (const auto rule = options_.charsmap->longest(rest)) return *rule;
      }
      std::size_t size = 0;
      decode_utf8(rest, &size);
      return std::make_pair(size, rest.substr(0, size));
    };
    if (options_.remove_extra_whitespaces) {
      while (!rest.empty()) {
        const auto [size, normal] = next();
        if (normal != " ") break;
        rest.remove_prefix(size);
      }
    }
    std::string out;
    out.reserve(rest.size() * 3 / 2 + 8);
    const bool prefix = !rest.empty() && (options_.dummy_prefix == PrefixScheme::always ||
                                          (options_.dummy_prefix == PrefixScheme::first && first));
    if (prefix && !options_.whitespace_as_suffix) out.append(space);
    bool after_space = options_.remove_extra_whitespaces;
    while (!rest.empty()) {
      auto [size, normal] = next();
      while (after_space && normal.starts_with(' ')) normal.remove_prefix(1);
      for (const char c : normal) {
        if (c == ' ') {
          out.append(space);
        } else {
          out.push_back(c);
        }
      }
      if (!normal.empty()) after_space = options_.remove_extra_whitespaces && normal.ends_with(' ');
      rest.remove_prefix(size);
    }
    if (options_.remove_extra_whitespaces) {
      while (std::string_view(out).ends_with(space)) out.resize(out.size() - space.size());
    }
    if (prefix && options_.whitespace_as_suffix) out.append(space);
    if (text->tracks_trust()) text->trusted.assign(out.size(), '\0');
    text->text = std::move(out);
  }

 private:
  SentencePieceNormalizerOptions options_;
};

}  // namespace

std::unique_ptr<NormalizerStep> make_sentencepiece_step(SentencePieceNormalizerOptions options) {
  return std::make_unique<SentencePieceStep>(std::move(options));
}

}  // namespace inferd
