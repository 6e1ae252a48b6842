// Qwen3, dense: arXiv:2505.09388.
#include "engine/models/qwen3_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// Llama's blocks with an RMSNorm on every q and k head before rotation, and a head size of its own.
class Qwen3Model final : public Decoder {
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

LoadedModel load_qwen3(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, {.qkv_bias = Bias::optional, .qk_norm = true});
  LoadedModel model;
  model.decoder = std::make_unique<Qwen3Model>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
