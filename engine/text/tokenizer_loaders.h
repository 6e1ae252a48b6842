// The loaders behind load_tokenizer, one for each kind of file.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/text/tokenizer_pipeline.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

/// From GGUF metadata (tokenizer.ggml.*). Throws CheckpointError.
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const GgufMetadata& metadata, const std::string& file);

/// From the tokenizer files of a Hugging Face folder. Throws CheckpointError.
std::unique_ptr<Tokenizer> load_folder_tokenizer(const Checkpoint& checkpoint);

/// The vocabulary files that need code beside them, by what they are called; nullopt if the folder has none of them.
std::optional<TokenizerParts> read_vocabulary_files(const Checkpoint& checkpoint);

/// Byte-level BPE over parts->vocabulary (pieces are bytes) with a recipe's patterns.
struct SplitRecipe;
void build_byte_level(const SplitRecipe& recipe, const std::vector<struct BpeMerge>& merges, TokenizerParts* parts);

}  // namespace inferd
