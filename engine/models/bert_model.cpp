// BERT encoders (arXiv:1810.04805) with sentence pooling (arXiv:1908.10084).
#include "engine/models/bert_model.h"

#include <algorithm>
#include <cmath>

#include "base/errors.h"
#include "base/log.h"
#include "engine/models/arena_layout.h"
#include "engine/models/layers.h"
#include "engine/models/pooling_config.h"

namespace inferd {
namespace {

/// LayerNorm with its bias.
struct LayerNorm {
  DeviceVector weight, bias;  // [hidden_size]
};

struct BertLayer {
  Linear qkv;                // [3 * hidden_size, hidden_size]
  Linear attention_out;      // [hidden_size, hidden_size]
  LayerNorm attention_norm;  // after the attention's residual
  Linear up;                 // [intermediate_size, hidden_size]
  Linear down;               // [hidden_size, intermediate_size]
  LayerNorm output_norm;     // after the MLP's residual
};

struct BertWeights {
  std::unique_ptr<Weight> words;      // [vocab_size, hidden_size]
  std::unique_ptr<Weight> positions;  // [max_position_embeddings, hidden_size]
  std::unique_ptr<Weight> types;      // [type_vocab_size, hidden_size]; single texts are type 0
  LayerNorm embedding_norm;
  std::vector<BertLayer> layers;
};

LayerNorm load_norm(WeightLoader& loader, const std::string& module, std::int64_t size) {
  return {loader.vector(module + ".weight", size), loader.vector(module + ".bias", size)};
}

BertLayer load_layer(WeightLoader& loader, const ModelConfig& config, int index) {
  const std::string layer = "encoder.layer." + std::to_string(index) + ".";
  const std::int64_t hidden = config.hidden_size;
  BertLayer out;
  out.qkv = loader.linear({{layer + "attention.self.query", hidden},
                           {layer + "attention.self.key", hidden},
                           {layer + "attention.self.value", hidden}},
                          hidden, Bias::required);
  out.attention_out = loader.linear({{layer + "attention.output.dense", hidden}}, hidden, Bias::required);
  out.attention_norm = load_norm(loader, layer + "attention.output.LayerNorm", hidden);
  out.up = loader.linear({{layer + "intermediate.dense", config.intermediate_size}}, hidden, Bias::required);
  out.down = loader.linear({{layer + "output.dense", hidden}}, config.intermediate_size, Bias::required);
  out.output_norm = load_norm(loader, layer + "output.LayerNorm", hidden);
  return out;
}

/// Rows of the type embedding: its configuration key is optional in both formats.
std::int64_t type_count(const Checkpoint& checkpoint) {
  const TensorNames names(checkpoint);
  const StoredTensor* types = checkpoint.find(names.stored("embeddings.token_type_embeddings.weight"));
  return types != nullptr && types->shape.size() == 2 ? types->shape[0] : 1;
}

BertWeights load_weights(WeightLoader& loader, const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  BertWeights weights;
  weights.words = loader.embedding("embeddings.word_embeddings.weight", config.vocab_size, hidden);
  weights.positions = loader.embedding("embeddings.position_embeddings.weight", config.max_position_embeddings, hidden);
  weights.types = loader.embedding("embeddings.token_type_embeddings.weight", type_count(checkpoint), hidden);
  weights.embedding_norm = load_norm(loader, "embeddings.LayerNorm", hidden);
  for (int i = 0; i < config.num_layers; ++i) weights.layers.push_back(load_layer(loader, config, i));
  // The heads of pre-training take no part in sentence vectors.
  loader.finish({"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids", "cls.predictions.bias",
                 "cls.predictions.decoder.weight", "cls.predictions.decoder.bias",
                 "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
                 "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias",
                 "cls.seq_relationship.weight", "cls.seq_relationship.bias"});
  return weights;
}

/// Refuses relatives of BERT that compute something else under the same model_type.
void check_kind(const Checkpoint& checkpoint, const ModelConfig& config) {
  if (static_cast<std::int64_t>(config.num_heads) * config.head_dim != config.hidden_size ||
      config.num_kv_heads != config.num_heads) {
    throw CheckpointError(log_safe(checkpoint.path()), "num_attention_heads", "heads that share out hidden_size evenly",
                          std::to_string(config.num_heads));
  }
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) return;
  const auto expect = [&](const char* key, std::string_view wanted) {
    const auto found = json->find(key);
    if (found == json->end() || !found->is_string() || found->get<std::string>() == wanted) return;
    throw CheckpointError(log_safe(checkpoint.path()) + "/config.json", key, std::string(wanted),
                          log_safe(found->get<std::string>()));
  };
  expect("hidden_act", "gelu");
  expect("position_embedding_type", "absolute");
}

class BertModel final : public EncoderModel {
 public:
  BertModel(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
            BertWeights weights, const PoolingConfig& pooling, std::size_t resident_bytes)
      : config_(config),
        pooling_(pooling),
        backend_(backend),
        weights_(std::move(weights)),
        info_(make_model_info(checkpoint, config, resident_bytes)),
        max_tokens_(std::max(options.max_batch_tokens, pooling.max_sequence_tokens)) {
    info_.max_context = pooling.max_sequence_tokens;
    memory_ = backend.allocate(lay_out(nullptr));
    lay_out(memory_->data());
    backend.reserve_workspace(max_tokens_, std::max(config.hidden_size, config.intermediate_size));
  }

  const ModelInfo& info() const override { return info_; }
  std::int64_t max_batch_tokens() const override { return max_tokens_; }
  std::int64_t max_sequence_tokens() const override { return pooling_.max_sequence_tokens; }
  std::int64_t embedding_dim() const override { return config_.hidden_size; }

  Tensor encode(const BatchTensors& batch, const LayerHook& hook) override {
    INFERD_CHECK(batch.num_tokens > 0 && batch.num_tokens <= max_tokens_);
    const Tensor x = hidden_.first_rows(batch.num_tokens);
    embed(batch, x);
    for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
      attention_block(weights_.layers[i], batch, x);
      mlp_block(weights_.layers[i], batch, x);
      if (hook) hook(static_cast<int>(i));
    }
    const Tensor out = pooled_.first_rows(batch.num_sequences);
    backend_.pool({.x = x, .batch = &batch, .kind = pooling_.kind, .normalize = pooling_.normalize, .out = out});
    return out;
  }

 private:
  /// x = LayerNorm(word + position + type).
  void embed(const BatchTensors& batch, const Tensor& x) {
    const Tensor zeros = type_ids_.first_rows(batch.num_tokens);  // device memory starts as zeros
    backend_.embedding({.out = x, .weight = weights_.words.get(), .ids = batch.tokens});
    backend_.embedding({.out = x, .weight = weights_.types.get(), .ids = zeros, .accumulate = true});
    backend_.embedding({.out = x, .weight = weights_.positions.get(), .ids = batch.positions, .accumulate = true});
    layer_norm(weights_.embedding_norm, x);
  }

  /// x = LayerNorm(x + W_o attention(W_qkv x)).
  void attention_block(const BertLayer& layer, const BatchTensors& batch, const Tensor& x) {
    const Tensor qkv = qkv_.first_rows(batch.num_tokens);
    backend_.linear({.x = normed_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.qkv.weight.get(),
                     .bias = layer.qkv.bias.tensor(),
                     .out = qkv});
    backend_.encoder_attention({.qkv = qkv,
                                .num_heads = config_.num_heads,
                                .head_dim = config_.head_dim,
                                .batch = &batch,
                                .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                                .out_activation = attended_});
    backend_.linear({.x = attended_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.attention_out.weight.get(),
                     .bias = layer.attention_out.bias.tensor(),
                     .residual = x,
                     .out = x});
    layer_norm(layer.attention_norm, x);
  }

  /// x = LayerNorm(x + W_down gelu(W_up x)).
  void mlp_block(const BertLayer& layer, const BatchTensors& batch, const Tensor& x) {
    backend_.linear({.x = normed_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.up.weight.get(),
                     .bias = layer.up.bias.tensor(),
                     .epilogue = Epilogue::gelu_erf,
                     .out_activation = widened_});
    backend_.linear({.x = widened_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.down.weight.get(),
                     .bias = layer.down.bias.tensor(),
                     .residual = x,
                     .out = x});
    layer_norm(layer.output_norm, x);
  }

  /// In place, and into the activation that the next linear reads.
  void layer_norm(const LayerNorm& norm, const Tensor& x) {
    backend_.norm({.kind = NormKind::layer,
                   .x = x,
                   .weight = norm.weight.tensor(),
                   .bias = norm.bias.tensor(),
                   .eps = static_cast<float>(config_.norm_eps),
                   .out = x,
                   .activation = normed_});
  }

  /// Sets all views from `base` on (null: only measures). Returns the bytes they take.
  std::size_t lay_out(void* base) {
    ArenaLayout arena(base);
    std::uint32_t normed_forms = 0, attended_forms = 0, widened_forms = 0;
    for (const BertLayer& layer : weights_.layers) {
      normed_forms |= layer.qkv.weight->activation_forms() | layer.up.weight->activation_forms();
      attended_forms |= layer.attention_out.weight->activation_forms();
      widened_forms |= layer.down.weight->activation_forms();
    }
    hidden_ = arena.matrix(max_tokens_, config_.hidden_size);
    qkv_ = arena.matrix(max_tokens_, 3 * config_.hidden_size);
    pooled_ = arena.matrix(max_tokens_, config_.hidden_size);  // at most one sequence a token
    type_ids_ =
        Tensor(arena.place(static_cast<std::size_t>(max_tokens_) * sizeof(std::int32_t)), DType::i32, {max_tokens_});
    normed_ = arena.activation(backend_, max_tokens_, config_.hidden_size, normed_forms);
    attended_ = arena.activation(backend_, max_tokens_, config_.hidden_size, attended_forms);
    widened_ = arena.activation(backend_, max_tokens_, config_.intermediate_size, widened_forms);
    return arena.total_bytes();
  }

  ModelConfig config_;
  PoolingConfig pooling_;
  Backend& backend_;
  BertWeights weights_;
  ModelInfo info_;
  std::int64_t max_tokens_;
  std::unique_ptr<DeviceBuffer> memory_;
  Tensor hidden_;        // [max_tokens, hidden_size] f32
  Tensor qkv_;           // [max_tokens, 3 * hidden_size] f32
  Tensor pooled_;        // [max_tokens, hidden_size] f32
  Tensor type_ids_;      // [max_tokens] i32, all 0
  Activation normed_;    // [max_tokens, hidden_size]
  Activation attended_;  // [max_tokens, hidden_size]
  Activation widened_;   // [max_tokens, intermediate_size]
};

}  // namespace

LoadedModel load_bert(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  check_kind(checkpoint, config);
  const PoolingConfig pooling = read_pooling_config(checkpoint, config);
  WeightLoader loader(checkpoint, backend, options);
  BertWeights weights = load_weights(loader, checkpoint, config);
  LoadedModel model;
  model.encoder = std::make_unique<BertModel>(checkpoint, config, backend, options, std::move(weights), pooling,
                                              loader.resident_bytes());
  return model;
}

}  // namespace inferd
