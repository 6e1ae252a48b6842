// Qwen1.5, Qwen2 and Qwen2.5: arXiv:2407.10671.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Llama's blocks with biases on q, k and v; layers from max_window_layers on may see a sliding window only.
LoadedModel load_qwen2(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.qkv_bias = Bias::required});
}

}  // namespace inferd
