// White space becomes pieces: line ends "<n>", tabs "<|tab|>", runs of spaces "<|blank_N|>"; and back.
#include "engine/text/ice_text.h"

#include <algorithm>

#include "base/errors.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/text_rewriter.h"

namespace inferd {
namespace {

constexpr std::string_view kLineEnd = "<n>";
constexpr std::string_view kTab = "<|tab|>";
constexpr std::size_t kMostBlanks = 80;

std::string blank_piece(std::size_t count) { return "<|blank_" + std::to_string(count) + "|>"; }

class WhiteSpaceStep final : public NormalizerStep {
 public:
  void apply(NormalizedText* text, bool /*first*/) const override {
    TextRewriter rewriter(text);
    const std::string_view source = rewriter.source();
    for (std::size_t at = 0; at < source.size();) {
      if (source[at] == '\n' || source[at] == '\t') {
        rewriter.replace(at, at + 1, source[at] == '\n' ? kLineEnd : kTab);
        ++at;
        continue;
      }
      const std::size_t end = std::min(source.find_first_not_of(' ', at), source.size());
      const std::size_t blanks = std::min(end - at, kMostBlanks);
      if (blanks >= 2) {
        rewriter.replace(at, at + blanks, blank_piece(blanks));
        at += blanks;
      } else {
        rewriter.keep(at, at + 1);
        ++at;
      }
    }
    rewriter.commit();
  }
};

void shift_ids(std::size_t by, SentencePieceSpec* spec, Vocabulary* vocabulary) {
  vocabulary->pieces.insert(vocabulary->pieces.begin(), by, std::string());
  vocabulary->kinds.insert(vocabulary->kinds.begin(), by, PieceKind::hole);
  vocabulary->scores.insert(vocabulary->scores.begin(), by, 0.0);
  for (TokenId* id : {&spec->unk, &spec->bos, &spec->eos, &spec->pad}) {
    if (*id >= 0) *id += static_cast<TokenId>(by);
  }
}

TokenId require_piece(std::string_view piece, const TokenizerParts& parts) {
  const auto& pieces = parts.vocabulary.pieces;
  const auto found = std::find(pieces.begin(), pieces.end(), piece);
  if (found == pieces.end()) throw CheckpointError(parts.file, "pieces", std::string(piece), "none");
  return static_cast<TokenId>(found - pieces.begin());
}

}  // namespace

void read_ice_text(const std::string& bytes, std::int64_t image_tokens, TokenizerParts* parts) {
  SentencePieceSpec spec = read_sentencepiece_file(bytes, parts);
  if (!spec.unigram) throw CheckpointError(parts->file, "model_type", "unigram", "BPE");
  Vocabulary& vocabulary = parts->vocabulary;
  if (image_tokens < 0 || static_cast<std::size_t>(image_tokens) + vocabulary.size() > kMaxVocabulary) {
    throw CheckpointError(parts->file, "num_image_tokens", "0 to " + std::to_string(kMaxVocabulary),
                          std::to_string(image_tokens));
  }
  // The spellings of white space are ordinary text here, and better than any other way to cut it.
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.kinds[id] != PieceKind::user_defined) continue;
    vocabulary.kinds[id] = PieceKind::normal;
    vocabulary.scores[id] = 0.0;
  }
  shift_ids(static_cast<std::size_t>(image_tokens), &spec, &vocabulary);
  parts->normalizer.push_back(std::make_unique<WhiteSpaceStep>());
  build_sentencepiece(spec, PrefixScheme::always, parts);
  auto& replace = parts->decode.replace;
  replace.emplace_back(kLineEnd, "\n");
  replace.emplace_back(kTab, "\t");
  for (std::size_t count = 2; count <= kMostBlanks; ++count) {
    replace.emplace_back(blank_piece(count), std::string(count, ' '));
  }
  parts->suffix = {require_piece("[gMASK]", *parts), require_piece("<sop>", *parts)};
}

}  // namespace inferd
