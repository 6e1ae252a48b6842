// ice_text.model: the vocabulary of ChatGLM-6B, a SentencePiece file with spellings of its own for white space.
#pragma once

#include <cstdint>
#include <string>

#include "engine/text/tokenizer_pipeline.h"

namespace inferd {

/// Builds everything but added tokens. Ids are those of the file plus `image_tokens` (the first release put that many
/// in front). A text ends with [gMASK] <sop>. Throws CheckpointError.
void read_ice_text(const std::string& bytes, std::int64_t image_tokens, TokenizerParts* parts);

}  // namespace inferd
