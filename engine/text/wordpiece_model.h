// WordPieceModel: greedy longest pieces of a word, as BERT cuts text.
#pragma once

#include <string>
#include <vector>

#include "engine/text/string_table.h"
#include "engine/text/token_model.h"
#include "engine/text/vocabulary.h"

namespace inferd {

struct WordPieceOptions {
  TokenId unk = -1;
  std::string continuing_prefix = "##";
  std::size_t max_characters = 100;  // longer words are unknown
};

/// Immutable and thread-safe.
class WordPieceModel final : public TokenModel {
 public:
  WordPieceModel(const Vocabulary& vocabulary, const WordPieceOptions& options);
  void encode(std::string_view word, std::vector<TokenId>* out) const override;

 private:
  WordPieceOptions options_;
  StringTable lookup_;
};

}  // namespace inferd
