// BLOOM: arXiv:2211.05100, with the position biases of ALiBi (arXiv:2108.12409).
#include <cmath>

#include "engine/models/families.h"
#include "engine/models/gelu_decoder.h"

namespace inferd {
namespace {

/// Slopes fall geometrically over the largest power of two of heads; heads beyond it get those of twice as many heads,
/// every other one.
std::vector<float> alibi_slopes(int heads) {
  int power = 1;
  while (2 * power <= heads) power *= 2;
  std::vector<float> slopes;
  for (int head = 0; head < heads; ++head) {
    const double exponent = head < power ? -8.0 * (head + 1) / power : -4.0 * (2 * (head - power) + 1) / power;
    slopes.push_back(static_cast<float>(std::exp2(exponent)));
  }
  return slopes;
}

/// Token embeddings pass a LayerNorm; positions enter only as a bias on scores that falls with distance.
class BloomModel final : public GeluDecoder {
 public:
  BloomModel(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
             GeluWeights weights, LayerNorm embedding_norm, DeviceVector slopes, const WeightLoader& loader)
      : GeluDecoder(checkpoint, config, backend, options, options.max_batch_tokens, std::move(weights), loader),
        embedding_norm_(std::move(embedding_norm)),
        slopes_(std::move(slopes)) {}

 private:
  void begin(const BatchTensors& batch) override {
    const Tensor x = hidden(batch);
    backend_.embedding({.out = x, .weight = weights_.embedding.get(), .ids = batch.tokens});
    backend_.norm({.kind = NormKind::layer,
                   .x = x,
                   .weight = embedding_norm_.weight.tensor(),
                   .bias = embedding_norm_.bias.tensor(),
                   .eps = eps(),
                   .out = x});
  }

  void attend(const Tensor& qkv, const BatchTensors& batch, const KvLayer& kv) override {
    backend_.qkv_post({.qkv = qkv,
                       .num_heads = config_.num_heads,
                       .num_kv_heads = config_.num_kv_heads,
                       .head_dim = config_.head_dim,
                       .kv = kv,
                       .slots = batch.slots});
    backend_.attention({.qkv = qkv,
                        .num_heads = config_.num_heads,
                        .num_kv_heads = config_.num_kv_heads,
                        .head_dim = config_.head_dim,
                        .kv = kv,
                        .batch = &batch,
                        .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                        .alibi_slopes = slopes_.tensor(),
                        .out_activation = attended()});
  }

  LayerNorm embedding_norm_;
  DeviceVector slopes_;  // [num_heads]
};

}  // namespace

LoadedModel load_bloom(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  const bool gguf = checkpoint.format() == CheckpointFormat::gguf;
  GeluWeights weights = load_gelu_weights(loader, config, gguf ? QkvRows::stacked : QkvRows::by_head, 0.0f);
  LayerNorm norm{loader.vector("model.embed_norm.weight", config.hidden_size),
                 loader.vector("model.embed_norm.bias", config.hidden_size)};
  DeviceVector slopes = loader.upload(alibi_slopes(config.num_heads));
  loader.finish({"lm_head.weight"});  // the embedding again
  LoadedModel model;
  model.decoder = std::make_unique<BloomModel>(checkpoint, config, backend, options, std::move(weights),
                                               std::move(norm), std::move(slopes), loader);
  return model;
}

}  // namespace inferd
