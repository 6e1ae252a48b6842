// Qwen, first generation: arXiv:2309.16609.
#include "engine/models/qwen_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// Llama's blocks with q, k and v in one biased matrix. Beyond the trained length the model
/// would scale queries and rotary base by the length of each prompt, so that length is the limit of the context.
class QwenModel final : public Decoder {
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

LoadedModel load_qwen(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, {.qkv_bias = Bias::required, .fused_qkv = true});
  LoadedModel model;
  model.decoder = std::make_unique<QwenModel>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
