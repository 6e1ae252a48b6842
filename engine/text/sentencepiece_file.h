// SentencePiece model files: a protobuf with pieces, training facts and normalisation rules.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/text/normalizer.h"
#include "engine/text/tokenizer_pipeline.h"

namespace inferd {

/// What decides how a SentencePiece vocabulary is used, from a model file or from GGUF keys.
struct SentencePieceSpec {
  bool unigram = true;  // else BPE
  bool byte_fallback = false;
  TokenId unk = 0, bos = 1, eos = 2, pad = -1;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  std::string charsmap;  // empty: identity
};

/// Reads a ModelProto. Pieces go to parts->vocabulary. Throws CheckpointError(parts->file, …).
SentencePieceSpec read_sentencepiece_file(std::string_view bytes, TokenizerParts* parts);

/// Sets normalizer, model, decode rules and special ids for parts->vocabulary. `scheme`: where the dummy prefix goes if
/// there is one.
void build_sentencepiece(const SentencePieceSpec& spec, PrefixScheme scheme, TokenizerParts* parts);

}  // namespace inferd
