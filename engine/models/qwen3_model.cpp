// Qwen3, dense: arXiv:2505.09388.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Llama's blocks with an RMSNorm on every q and k head before rotation, and a head size of its own.
LoadedModel load_qwen3(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.qkv_bias = Bias::optional, .qk_norm = true});
}

}  // namespace inferd
