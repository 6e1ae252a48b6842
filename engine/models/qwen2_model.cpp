// Qwen1.5, Qwen2 and Qwen2.5: arXiv:2407.10671.
#include "engine/models/qwen2_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// Llama's blocks with biases on q, k and v; layers from max_window_layers on may see a sliding window only.
class Qwen2Model final : public Decoder {
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

LoadedModel load_qwen2(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, {.qkv_bias = Bias::required});
  LoadedModel model;
  model.decoder = std::make_unique<Qwen2Model>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
