// Qwen, first generation: arXiv:2309.16609.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Llama's blocks with q, k and v in one biased matrix. Beyond the trained length the model would scale queries and
/// rotary base by the length of each prompt, so that length is the limit of the context.
LoadedModel load_qwen(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.qkv_bias = Bias::required, .fused_qkv = true});
}

}  // namespace inferd
