// tokenizer.json: the file format of Hugging Face's tokenizers library.
#pragma once

#include <string>

#include "base/json.h"
#include "engine/text/tokenizer_fields.h"
#include "engine/text/tokenizer_pipeline.h"

namespace inferd {

/// Parts of the tokenizer that tokenizer.json describes, with the added_tokens_decoder of `config`
/// (tokenizer_config.json; may be null); special ids and stop ids are left to the caller. Truncation and padding
/// settings are ignored. Throws CheckpointError, also for component types that are not supported.
TokenizerParts read_tokenizer_parts(const Json& root, const std::string& file, const TokenizerFields* config);

/// The components of the file, each from its JSON object (or null).
Normalizer read_normalizer(const TokenizerFields& root);
struct PreTokenizerSpec {
  PreTokenizer steps;
  bool byte_level = false;  // words go to the model as bytes
};
PreTokenizerSpec read_pre_tokenizer(const TokenizerFields& root);
DecodeRules read_decoder(const TokenizerFields& root);
/// Prefix, suffix and pair template of the post-processor.
void read_post_processor(const TokenizerFields& root, TokenizerParts* parts);

/// Adds one token of an added_tokens list (or of added_tokens_decoder) to vocabulary and list, unless it is there.
/// To be called before the model is built, since the model must not produce it.
void add_token(const TokenizerFields& fields, std::int32_t id, TokenizerParts* parts);

/// add_token for every entry of config's added_tokens_decoder ({"id": {content, …}}).
void add_config_tokens(const TokenizerFields& config, TokenizerParts* parts);

}  // namespace inferd
