// What a tensor is to its model, told by its name as Hugging Face or GGUF has it.
#pragma once

#include <string_view>

namespace inferd {

/// The layer of "model.layers.12.mlp.up_proj.weight" or "blk.12.ffn_up.weight": 12; -1 outside the layers.
int layer_of(std::string_view name);

/// A part of the token embedding: "model.embed_tokens.weight", "token_embd.weight".
bool is_token_embedding(std::string_view name);

/// A part of the matrix that turns hidden states into logits: "lm_head.qweight", "output.weight".
bool is_output_matrix(std::string_view name);

/// A small matrix that decides which expert computes, or for how much.
bool is_router(std::string_view name);

}  // namespace inferd
