// Llama 1 to 3.3, and what has its shape (Mistral, SmolLM): arXiv:2302.13971.
#include "engine/models/llama_model.h"

#include "engine/models/layers.h"

namespace inferd {
namespace {

/// Pre-norm residual blocks of grouped-query attention with rotary positions and a SiLU-gated MLP.
class LlamaModel final : public Decoder {
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

LoadedModel load_llama(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  // attention_bias and mlp_bias of the configuration show in the tensors: biases are taken where they are.
  DecoderWeights weights = load_decoder_weights(loader, config, {.qkv_bias = Bias::optional});
  LoadedModel model;
  model.decoder = std::make_unique<LlamaModel>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
