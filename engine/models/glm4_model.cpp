// GLM-4-0414.
#include "engine/models/glm4_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// GLM's blocks without biases, and an RMSNorm on what attention and MLP yield before it joins the residual stream.
class Glm4Model final : public Decoder {
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

LoadedModel load_glm4(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, {.fused_gate_up = true, .output_norms = true});
  LoadedModel model;
  model.decoder = std::make_unique<Glm4Model>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
