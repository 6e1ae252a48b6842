// GLM-4-0414.
#include "engine/models/families.h"
#include "engine/models/layers.h"

namespace inferd {

/// GLM's blocks without biases, and an RMSNorm on what attention and MLP yield before it joins the residual stream.
LoadedModel load_glm4(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  return load_decoder(checkpoint, config, backend, options, {.fused_gate_up = true, .output_norms = true});
}

}  // namespace inferd
