// GLM-4-9B, and ChatGLM2 and 3 whose shape it has: arXiv:2406.12793.
#include "engine/models/glm_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// Llama's blocks with biases on q, k and v, a rotation of neighbouring pairs in the first half of every head, and gate
/// and up projections stored as one.
class GlmModel final : public Decoder {
 public:
  using Decoder::Decoder;

  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override {
    begin(batch);
    for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
      attention_block(weights_.layers[i].attention, batch, kv[i]);
      gated_mlp(weights_.layers[i].mlp, batch);
      if (hook) hook(static_cast<int>(i));
    }
    return logits(batch, logit_rows);
  }
};

}  // namespace

LoadedModel load_glm(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                     const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, {.fused_qkv = true, .fused_gate_up = true});
  LoadedModel model;
  model.decoder = std::make_unique<GlmModel>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
