// TokenizerPipeline: the one Tokenizer, put together from the parts that a file names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/string_table.h"
#include "engine/text/token_model.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary.h"

namespace inferd {

/// One place of a template for two texts.
struct PairItem {
  enum class Kind { special, first, second } kind = Kind::special;
  TokenId id = -1;  // of a special token
  int type_id = 0;
};

/// Everything a tokenizer is made of; filled by the loaders.
struct TokenizerParts {
  std::string file;  // for messages
  Vocabulary vocabulary;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const TokenModel> model;
  DecodeRules decode;
  std::vector<TokenId> prefix, suffix;  // around one text
  std::vector<PairItem> pair;           // empty: prefix A suffix B suffix
  SpecialTokens special;
};

/// Adds control and user-defined pieces of the vocabulary to `added` (GGUF and SentencePiece files have no other list).
void add_control_pieces(TokenizerParts* parts);

/// Sorts out stop ids: eos, what `special.stop` holds already, and the chat ends among the added tokens. Then builds.
std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts);

}  // namespace inferd
