// Qwen1.5-MoE and Qwen2-MoE (arXiv:2407.10671), Qwen3-MoE (arXiv:2505.09388).
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Qwen2's attention; most layers have experts beside one that all tokens go through, weighed by a gate of its own.
LoadedModel load_qwen2_moe(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                           const ModelOptions& options) {
  const ExpertOptions experts = read_expert_options(checkpoint, config, /*shared=*/true);
  return load_decoder(checkpoint, config, backend, options, {.qkv_bias = Bias::optional, .experts = &experts});
}

/// Qwen3's attention; experts only.
LoadedModel load_qwen3_moe(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                           const ModelOptions& options) {
  const ExpertOptions experts = read_expert_options(checkpoint, config, /*shared=*/false);
  return load_decoder(checkpoint, config, backend, options,
                      {.qkv_bias = Bias::optional, .qk_norm = true, .experts = &experts});
}

}  // namespace inferd
