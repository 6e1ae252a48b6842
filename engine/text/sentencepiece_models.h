// The two SentencePiece models: BPE by score, and unigram by best path.
#pragma once

#include <array>
#include <vector>

#include "engine/text/string_table.h"
#include "engine/text/token_model.h"
#include "engine/text/vocabulary.h"

namespace inferd {

/// Ids for characters that no piece covers: their <0xXX> pieces where the vocabulary has them all and `fallback` is
/// set, else one unknown id for each run of them.
class UnknownCharacters {
 public:
  UnknownCharacters(const Vocabulary& vocabulary, TokenId unk, bool fallback);
  void append(std::string_view character, std::vector<TokenId>* out);
  void known() { after_unknown_ = false; }

 private:
  std::array<TokenId, 256> bytes_;
  TokenId unk_;
  bool fallback_;
  bool after_unknown_ = false;
};

/// SentencePiece BPE: repeatedly joins the neighbours whose joint piece has the highest score, leftmost first.
class SpmBpeModel final : public TokenModel {
 public:
  SpmBpeModel(const Vocabulary& vocabulary, TokenId unk, bool byte_fallback);
  void encode(std::string_view word, std::vector<TokenId>* out) const override;

 private:
  StringTable lookup_;  // normal and unused pieces
  std::vector<float> scores_;
  std::vector<bool> unused_;
  ByteTrie blanks_;  // user-defined pieces of spaces only: found first, never joined
  UnknownCharacters unknown_;
};

struct UnigramOptions {
  TokenId unk = 0;
  bool byte_fallback = false;
  bool float_sums = false;  // SentencePiece sums scores as float, Hugging Face as double
};

/// Unigram: the segmentation with the highest sum of scores (Viterbi).
class UnigramModel final : public TokenModel {
 public:
  UnigramModel(const Vocabulary& vocabulary, const UnigramOptions& options);
  void encode(std::string_view word, std::vector<TokenId>* out) const override;

 private:
  ByteTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0.0;
  UnigramOptions options_;
  UnknownCharacters unknown_;
};

}  // namespace inferd
