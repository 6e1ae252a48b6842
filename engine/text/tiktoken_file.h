// tiktoken vocabularies: lines of "base64(token) rank".
#pragma once

#include <string_view>
#include <vector>

#include "engine/text/bpe_model.h"
#include "engine/text/tokenizer_pipeline.h"

namespace inferd {

/// True if `text` looks like the first line of such a file.
bool is_tiktoken_text(std::string_view text);

/// Reads the file into parts->vocabulary (id = rank) and returns its merges. Throws CheckpointError(parts->file, …).
std::vector<BpeMerge> read_tiktoken(std::string_view text, TokenizerParts* parts);

}  // namespace inferd
