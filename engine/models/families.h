// The table of model families: one row a family; to add one, write its file and add its row.
#pragma once

#include <span>
#include <string_view>

#include "engine/models/model.h"

namespace inferd {

/// Builds one family's model; `config` has been checked by load_model. Throws CheckpointError/MemoryError.
using FamilyLoader = LoadedModel(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                                 const ModelOptions& options);
FamilyLoader load_llama, load_qwen2, load_qwen3, load_qwen2_moe, load_qwen3_moe, load_qwen, load_glm, load_glm4,
    load_chatglm1, load_bloom, load_bert;

struct Family {
  std::string_view name;        // ModelConfig::family
  std::string_view model_type;  // config.json model_type
  std::string_view gguf_arch;   // general.architecture; empty: none
  RopeStyle hf_rope;            // pairing in safetensors
  RopeStyle gguf_rope;          // pairing in GGUF
  FamilyLoader* load;
};

/// All families, in the order of the documentation.
std::span<const Family> families();

/// Whether this checkpoint's model is an encoder by its family; false for families that inferd does not know.
bool is_encoder(const Checkpoint& checkpoint, const ModelConfig& config);

/// Whether the layers of this checkpoint's model can be divided between two backends (ModelOptions::host_layers).
bool can_divide(const Checkpoint& checkpoint, const ModelConfig& config);

/// Throws what load_model would throw because this model's matrices cannot be divided between `ranks` devices; nothing
/// if ranks is 1. Of a folder quantised by groups only the first layer is looked at, the others being like it.
void check_ranks(const Checkpoint& checkpoint, const ModelConfig& config, int ranks);

}  // namespace inferd
