// Encoders that norm after each block: BERT (arXiv:1810.04805), RoBERTa, GTE and Nomic, with sentence pooling
// (arXiv:1908.10084) or the head of a cross-encoder.
#include <algorithm>
#include <cmath>

#include "engine/models/arena_layout.h"
#include "engine/models/encoder_weights.h"
#include "engine/models/families.h"
#include "engine/models/layers.h"
#include "engine/models/pooling_config.h"
#include "engine/models/score_head.h"

namespace inferd {
namespace {

class BertModel final : public EncoderModel {
 public:
  BertModel(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
            EncoderWeights weights, ScoreHead head, const PoolingConfig& pooling, std::size_t resident_bytes)
      : config_(config),
        pooling_(pooling),
        backend_(backend),
        weights_(std::move(weights)),
        head_(std::move(head)),
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
  EncoderKind kind() const override { return head_ ? EncoderKind::reranker : EncoderKind::embedding; }
  bool normalizes() const override { return pooling_.normalize; }
  std::int64_t embedding_dim() const override { return head_ ? 1 : config_.hidden_size; }

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
    return head_ ? head_.run(backend_, out) : out;
  }

 private:
  /// x = LayerNorm(word + type (+ position)); without learned positions, cos and sin of their rotations.
  void embed(const BatchTensors& batch, const Tensor& x) {
    backend_.embedding({.out = x, .weight = weights_.words.get(), .ids = batch.tokens});
    if (weights_.types) {
      // One type: the tokenizer's pairs are not told apart. Device memory starts as zeros.
      const bool typed = batch.type_ids && weights_.type_count > 1;
      const Tensor types = typed ? batch.type_ids : zero_types_.first_rows(batch.num_tokens);
      backend_.embedding({.out = x, .weight = weights_.types.get(), .ids = types, .accumulate = true});
    }
    if (weights_.positions) {
      backend_.embedding({.out = x, .weight = weights_.positions.get(), .ids = batch.positions, .accumulate = true});
    } else {
      backend_.rope_table({.positions = batch.positions,
                           .inv_freq = weights_.inv_freq.tensor(),
                           .attention_scaling = weights_.rope_scaling,
                           .out = rope_.first_rows(batch.num_tokens)});
    }
    layer_norm(weights_.embedding_norm, x);
  }

  /// x = LayerNorm(x + W_o attention(rope(W_qkv x))).
  void attention_block(const EncoderLayer& layer, const BatchTensors& batch, const Tensor& x) {
    const Tensor qkv = qkv_.first_rows(batch.num_tokens);
    backend_.linear({.x = normed_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.qkv.weight.get(),
                     .bias = layer.qkv.bias.tensor(),
                     .out = qkv});
    if (!weights_.positions) {
      backend_.qkv_post({.qkv = qkv,
                         .num_heads = config_.num_heads,
                         .num_kv_heads = config_.num_heads,
                         .head_dim = config_.head_dim,
                         .rope = rope_.first_rows(batch.num_tokens),
                         .rotary_dim = config_.rope.rotary_dim,
                         .style = config_.rope.style});
    }
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

  /// x = LayerNorm(x + W_down gelu(W_up x)), or with act(W_gate x) * W_up x in the middle.
  void mlp_block(const EncoderLayer& layer, const BatchTensors& batch, const Tensor& x) {
    backend_.linear({.x = normed_,
                     .num_tokens = batch.num_tokens,
                     .weight = layer.up.weight.get(),
                     .bias = layer.up.bias.tensor(),
                     .epilogue = weights_.activation,
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
    for (const EncoderLayer& layer : weights_.layers) {
      normed_forms |= layer.qkv.weight->activation_forms() | layer.up.weight->activation_forms();
      attended_forms |= layer.attention_out.weight->activation_forms();
      widened_forms |= layer.down.weight->activation_forms();
    }
    hidden_ = arena.matrix(max_tokens_, config_.hidden_size);
    qkv_ = arena.matrix(max_tokens_, 3 * config_.hidden_size);
    pooled_ = arena.matrix(max_tokens_, config_.hidden_size);  // at most one sequence a token
    zero_types_ =
        Tensor(arena.place(static_cast<std::size_t>(max_tokens_) * sizeof(std::int32_t)), DType::i32, {max_tokens_});
    const int rotary_dim = weights_.positions ? 0 : config_.rope.rotary_dim;
    rope_ = Tensor(arena.matrix(max_tokens_, rotary_dim).data, DType::f32, {max_tokens_, rotary_dim / 2, 2});
    normed_ = arena.activation(backend_, max_tokens_, config_.hidden_size, normed_forms);
    attended_ = arena.activation(backend_, max_tokens_, config_.hidden_size, attended_forms);
    widened_ = arena.activation(backend_, max_tokens_, config_.intermediate_size, widened_forms);
    head_.lay_out(&arena, backend_, max_tokens_);
    return arena.total_bytes();
  }

  ModelConfig config_;
  PoolingConfig pooling_;
  Backend& backend_;
  EncoderWeights weights_;
  ScoreHead head_;
  ModelInfo info_;
  std::int64_t max_tokens_;
  std::unique_ptr<DeviceBuffer> memory_;
  Tensor hidden_;        // [max_tokens, hidden_size] f32
  Tensor qkv_;           // [max_tokens, 3 * hidden_size] f32
  Tensor pooled_;        // [max_tokens, hidden_size] f32
  Tensor zero_types_;    // [max_tokens] i32, all 0
  Tensor rope_;          // [max_tokens, rotary_dim / 2, 2] f32, no columns with learned positions
  Activation normed_;    // [max_tokens, hidden_size]
  Activation attended_;  // [max_tokens, hidden_size]
  Activation widened_;   // [max_tokens, intermediate_size]
};

}  // namespace

LoadedModel load_bert(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  EncoderWeights weights = load_encoder_weights(loader, checkpoint, config);
  PoolingConfig pooling = read_pooling_config(checkpoint, config);
  pooling.max_sequence_tokens = std::min(pooling.max_sequence_tokens, weights.max_positions);
  ScoreHead head;
  if (is_sequence_classifier(checkpoint)) {
    head = ScoreHead::load(loader, checkpoint, config.hidden_size);
    pooling.kind = PoolingKind::cls;
    pooling.normalize = false;
  }
  // The heads of pre-training take no part in sentence vectors.
  loader.finish({"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids", "cls.predictions.bias",
                 "cls.predictions.decoder.weight", "cls.predictions.decoder.bias",
                 "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
                 "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias",
                 "cls.seq_relationship.weight", "cls.seq_relationship.bias", "lm_head.bias", "lm_head.dense.weight",
                 "lm_head.dense.bias", "lm_head.layer_norm.weight", "lm_head.layer_norm.bias", "lm_head.decoder.weight",
                 "lm_head.decoder.bias"});
  LoadedModel model;
  model.encoder = std::make_unique<BertModel>(checkpoint, config, backend, options, std::move(weights), std::move(head),
                                              pooling, loader.resident_bytes());
  return model;
}

}  // namespace inferd
