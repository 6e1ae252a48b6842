// The two readers behind read_model_config, and the checks they share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/weights/model_config.h"

namespace inferd {

ModelConfig read_json_config(const Checkpoint& checkpoint);
ModelConfig read_gguf_config(const Checkpoint& checkpoint);

/// Rope settings of config.json in either dialect; `config` has head_dim, max_position_embeddings and model_type set.
RopeConfig read_json_rope(const Json& root, const std::string& file, const ModelConfig& config);

/// Throws unless every field has a sane value and fits the others; fills max_position_embeddings from the scaling.
void finish_config(ModelConfig* config, const std::string& file);

/// Qwen-1 counts the rows of gate and up together; ModelConfig counts one of them. Throws if the number is odd.
void halve_intermediate_size(ModelConfig* config, const std::string& file, const std::string& field);

/// False for families with learned or ALiBi positions.
bool family_has_rope(std::string_view model_type);

/// "model" for "/x/model-00001-of-00003.gguf", the folder's name for a folder.
std::string checkpoint_stem(const std::string& path);

/// Largest values a configuration may claim; far above every published model.
struct ConfigLimits {
  static constexpr std::int64_t kVocabulary = 1 << 24;
  static constexpr std::int64_t kWidth = 1 << 22;
  static constexpr std::int64_t kLayers = 4096;
  static constexpr std::int64_t kHeads = 1 << 16;
  static constexpr std::int64_t kHeadDim = 1 << 14;
  static constexpr std::int64_t kContext = std::int64_t{1} << 30;
};

}  // namespace inferd
