// Dividing a decoder's sizes.
#include "engine/models/rank_config.h"

#include <array>
#include <string>
#include <utility>

#include "base/errors.h"
#include "engine/models/tensor_names.h"
#include "engine/weights/quantized_matrix.h"
#include "kernels/weight_slice.h"

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

void check_column_shards(const Checkpoint& checkpoint, const ModelConfig& config, int ranks) {
  const TensorNames names(checkpoint);
  const QuantizationConfig quantization = read_quantization_config(checkpoint);
  const std::array<std::pair<const char*, std::int64_t>, 2> matrices = {
      {{"self_attn.o_proj.weight", static_cast<std::int64_t>(config.num_heads) * config.head_dim},
       {"mlp.down_proj.weight", config.intermediate_size}}};
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const auto& [name, columns] : matrices) {
      const std::string stored = names.stored("model.layers." + std::to_string(layer) + "." + name);
      if (const StoredTensor* tensor = checkpoint.find(stored)) {
        check_slice_columns({tensor->data, tensor->dtype, config.hidden_size, columns}, ranks);
      } else if (layer == 0) {
        const auto matrix = read_quantized_matrix(checkpoint, quantization, stored.substr(0, stored.rfind('.')),
                                                  config.hidden_size, columns);
        if (!matrix) continue;
        check_slice_columns({matrix->data.data(), matrix->dtype, config.hidden_size, columns,
                             matrix->column_order.empty() ? nullptr : matrix->column_order.data()},
                            ranks);
      }
    }
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
