// Weighing a decoder's parts by the names of its tensors, and dividing its layers.
#include "engine/models/placement.h"

#include <algorithm>

#include "base/check.h"
#include "engine/models/rank_config.h"
#include "engine/weights/quantized_matrix.h"
#include "engine/weights/tensor_roles.h"

namespace inferd {
namespace {

std::size_t sum(const std::vector<std::size_t>& values, std::size_t begin, std::size_t end) {
  std::size_t total = 0;
  for (std::size_t i = begin; i < end; ++i) total += values[i];
  return total;
}

}  // namespace

std::size_t DecoderFootprint::weights() const { return embedding + output + shared + sum(layers, 0, layers.size()); }

std::size_t DecoderFootprint::output_matrix() const { return output > 0 ? output : embedding; }

DecoderFootprint measure_decoder(const Checkpoint& checkpoint, const ModelConfig& config, DType kv_dtype,
                                 std::int64_t max_batch_tokens, std::int64_t logit_rows, int ranks) {
  DecoderFootprint out;
  out.layers.resize(static_cast<std::size_t>(config.num_layers));
  const auto parts = static_cast<std::size_t>(ranks);
  const std::size_t output_parts = config.vocab_size % ranks == 0 ? parts : 1;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const int layer = layer_of(tensor.name);
    const std::size_t bytes = loaded_bytes(checkpoint, tensor);
    if (layer >= 0 && layer < config.num_layers) {
      // Some vectors are divided, but they weigh nothing.
      out.layers[static_cast<std::size_t>(layer)] += bytes / (tensor.shape.size() > 1 ? parts : 1);
    } else if (is_output_matrix(tensor.name)) {
      if (!config.tie_word_embeddings) out.output += bytes / output_parts;
    } else {
      (is_token_embedding(tensor.name) ? out.embedding : out.shared) += bytes;
    }
  }
  const ModelConfig own = rank_config(config, ranks);
  const std::int64_t kv_width = static_cast<std::int64_t>(own.num_kv_heads) * own.head_dim;
  const std::int64_t attention = static_cast<std::int64_t>(own.num_heads) * own.head_dim;
  out.kv_per_token = 2 * kv_bytes(kv_dtype, own.num_kv_heads, own.head_dim);
  // f32 residual stream and q, k, v; activations of at most four bytes an element; products before their epilogue.
  std::int64_t row = 3 * config.hidden_size + 2 * attention + 2 * kv_width + 3 * own.intermediate_size;
  std::int64_t logits = config.vocab_size + 2 * config.hidden_size;
  if (ranks > 1) {  // the products of all ranks, side by side
    row += ranks * std::max({config.hidden_size, attention, own.intermediate_size});
    if (!config.tie_word_embeddings && output_parts > 1) logits += config.vocab_size;
  }
  out.workspace = static_cast<std::size_t>(max_batch_tokens * row) * sizeof(float);
  out.output_workspace = static_cast<std::size_t>(logit_rows * logits) * sizeof(float);
  return out;
}

Placement place_layers(const DecoderFootprint& decoder, int host_layers) {
  const std::size_t count = decoder.layers.size(), below = static_cast<std::size_t>(host_layers);
  INFERD_CHECK(below <= count);
  Placement out{.host_layers = host_layers};
  const std::size_t all = decoder.weights() + decoder.workspace + decoder.output_workspace;
  if (below == 0) {
    out.gpu_bytes = all;
  } else if (below == count) {
    out.host_bytes = all;
  } else {
    out.gpu_bytes = sum(decoder.layers, below, count) + decoder.output_matrix() + decoder.shared + decoder.workspace +
                    decoder.output_workspace;
    out.host_bytes = sum(decoder.layers, 0, below) + decoder.embedding + decoder.workspace;
  }
  return out;
}

Placement choose_placement(const DecoderFootprint& decoder, std::size_t gpu_bytes, std::int64_t kv_tokens) {
  const int count = static_cast<int>(decoder.layers.size());
  for (int below = 0; below < count; ++below) {
    const Placement placement = place_layers(decoder, below);
    const std::size_t kv =
        static_cast<std::size_t>(count - below) * decoder.kv_per_token * static_cast<std::size_t>(kv_tokens);
    if (placement.gpu_bytes + kv <= gpu_bytes) return placement;
  }
  return place_layers(decoder, count);
}

}  // namespace inferd
