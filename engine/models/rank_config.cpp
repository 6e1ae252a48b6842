// Dividing a decoder's sizes.
#include "engine/models/rank_config.h"

#include <array>
#include <string>
#include <utility>

#include "base/errors.h"

namespace inferd {

void check_divisible(const std::string& path, const ModelConfig& config, int ranks) {
  const std::array<std::pair<const char*, std::int64_t>, 3> sizes = {
      {{"attention heads", config.num_heads},
       {"key-value heads", config.num_kv_heads},
       {"elements of the MLP", config.intermediate_size}}};
  for (const auto& [what, count] : sizes) {
    if (count % ranks == 0) continue;
    throw ConfigError("tensor_parallel: " + path + ": its " + std::to_string(count) + " " + what +
                      " cannot be divided between " + std::to_string(ranks) + " GPUs");
  }
}

ModelConfig rank_config(const ModelConfig& config, int ranks) {
  ModelConfig own = config;
  own.num_heads /= ranks;
  own.num_kv_heads /= ranks;
  own.intermediate_size /= ranks;
  return own;
}

}  // namespace inferd
