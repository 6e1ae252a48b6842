// The table of model families: one row a family; to add one, write its file and add its row.
#pragma once

#include <span>
#include <string_view>

#include "engine/models/model.h"

namespace inferd {

struct Family {
  std::string_view name;        // ModelConfig::family
  std::string_view model_type;  // config.json model_type
  std::string_view gguf_arch;   // general.architecture; empty: none
  RopeStyle hf_rope;            // pairing in safetensors
  RopeStyle gguf_rope;          // pairing in GGUF
  LoadedModel (*load)(const Checkpoint&, const ModelConfig&, Backend&, const ModelOptions&);
};

/// All families, in the order of the documentation.
std::span<const Family> families();

}  // namespace inferd
