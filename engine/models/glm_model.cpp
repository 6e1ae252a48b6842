// GLM-4-9B, and ChatGLM2 and 3 whose shape it has: arXiv:2406.12793.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// Llama's blocks with biases on q, k and v, a rotation of neighbouring pairs in the first half of every head, and gate
/// and up projections stored as one.
LoadedModel load_glm(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                     const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.fused_qkv = true, .fused_gate_up = true});
}

}  // namespace inferd
