// Llama 1 to 3.3, and what has its shape (Mistral, SmolLM): arXiv:2302.13971.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Pre-norm residual blocks of grouped-query attention with rotary positions and a SiLU-gated MLP. attention_bias and
/// mlp_bias of the configuration show in the tensors: biases are taken where they are.
LoadedModel load_llama(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.qkv_bias = Bias::optional});
}

}  // namespace inferd
