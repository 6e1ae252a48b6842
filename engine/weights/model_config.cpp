// Reading a model's configuration: which reader, and the checks that hold for both.
#include "engine/weights/model_config.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/errors.h"
#include "engine/weights/config_readers.h"

namespace inferd {

ModelConfig read_model_config(const Checkpoint& checkpoint) {
  return checkpoint.metadata() != nullptr ? read_gguf_config(checkpoint) : read_json_config(checkpoint);
}

bool family_has_rope(std::string_view model_type) {
  static constexpr std::array<std::string_view, 5> kWithout{"bert", "roberta", "xlm-roberta", "distilbert", "bloom"};
  return std::find(kWithout.begin(), kWithout.end(), model_type) == kWithout.end();
}

void halve_intermediate_size(ModelConfig* config, const std::string& file, const std::string& field) {
  if (config->intermediate_size % 2 != 0) {
    throw CheckpointError(file, field, "an even number: gate and up rows", std::to_string(config->intermediate_size));
  }
  config->intermediate_size /= 2;
}

std::string checkpoint_stem(const std::string& path) {
  std::filesystem::path at(path);
  if (at.filename().empty()) at = at.parent_path();  // "folder/"
  std::string name = at.filename().string();
  if (at.extension() == ".gguf") {
    name = at.stem().string();
    // "-00001-of-00003" has 15 characters.
    if (name.size() > 15 && name.substr(name.size() - 15, 7) == "-00001-" && name.substr(name.size() - 8, 3) == "of-") {
      name.resize(name.size() - 15);
    }
  }
  return name;
}

void finish_config(ModelConfig* config, const std::string& file) {
  if (config->num_heads % config->num_kv_heads != 0) {
    throw CheckpointError(file, "num_key_value_heads", "a divisor of " + std::to_string(config->num_heads) + " heads",
                          std::to_string(config->num_kv_heads));
  }
  RopeConfig& rope = config->rope;
  if (rope.rotary_dim % 2 != 0 || rope.rotary_dim > config->head_dim) {
    throw CheckpointError(file, "rotary dimensions",
                          "an even number of at most head_dim, " + std::to_string(config->head_dim),
                          std::to_string(rope.rotary_dim));
  }
  const auto half = static_cast<std::size_t>(rope.rotary_dim / 2);
  for (const auto* factors : {&rope.short_factors, &rope.long_factors, &rope.freq_divisors}) {
    if (!factors->empty() && factors->size() != half) {
      throw CheckpointError(file, "rope factors", std::to_string(half) + " numbers, half the rotary dimensions",
                            std::to_string(factors->size()));
    }
    if (!std::all_of(factors->begin(), factors->end(), [](float value) { return value > 0.0f && value < 1e30f; })) {
      throw CheckpointError(file, "rope factors", "finite numbers above 0", "another");
    }
  }
  if (rope.scaling != "default" && rope.original_max_position_embeddings == 0) {
    rope.original_max_position_embeddings = config->max_position_embeddings;
  }
  if (rope.scaling == "yarn" || rope.scaling == "linear" || rope.scaling == "dynamic") {
    const double extended = rope.factor * static_cast<double>(rope.original_max_position_embeddings);
    const double limited = std::min(extended, static_cast<double>(ConfigLimits::kContext));
    config->max_position_embeddings = std::max(config->max_position_embeddings, static_cast<std::int64_t>(limited));
  }
}

}  // namespace inferd
