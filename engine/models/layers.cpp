// The stages of a decoder's forward.
#include "engine/models/layers.h"

#include <algorithm>
#include <cmath>

#include "engine/models/arena_layout.h"
#include "engine/weights/summary.h"

namespace inferd {

ModelInfo make_model_info(const Checkpoint& checkpoint, const ModelConfig& config, std::size_t resident_bytes) {
  ModelInfo info;
  info.name = config.name;
  info.family = config.family;
  info.parameters = parameter_count(checkpoint);
  info.quantization = quantization_name(checkpoint);
  info.weight_bytes = checkpoint.tensor_bytes();
  info.resident_bytes = resident_bytes;
  info.max_context = config.max_position_embeddings;
  info.vocab_size = config.vocab_size;
  info.hidden_size = config.hidden_size;
  return info;
}

std::size_t DecoderWorkspace::lay_out(void* base, const Backend& backend, const ModelConfig& config,
                                      const DecoderWeights& weights, const AdapterBank& adapters,
                                      const ModelOptions& options) {
  ArenaLayout arena(base);
  const std::int64_t tokens = options.max_batch_tokens, logit_rows = options.max_logit_rows;
  const std::int64_t attention_columns = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  std::uint32_t normed_forms = 0, attended_forms = 0, gated_forms = 0;
  bool output_norms = false;
  for (const DecoderLayer& layer : weights.layers) {
    output_norms = output_norms || layer.attention.out_norm.buffer || layer.mlp.out_norm.buffer;
    normed_forms |= layer.attention.qkv.weight->activation_forms();
    attended_forms |= layer.attention.out.weight->activation_forms();
    if (layer.experts) {
      normed_forms |= layer.experts->input_forms();
      continue;
    }
    normed_forms |= layer.mlp.gate_up.weight->activation_forms();
    gated_forms |= layer.mlp.down.weight->activation_forms();
  }
  hidden = arena.matrix(tokens, config.hidden_size);
  qkv = arena.matrix(tokens, attention_columns + 2LL * config.num_kv_heads * config.head_dim);
  rope = Tensor(arena.matrix(tokens, config.rope.rotary_dim).data, DType::f32, {tokens, config.rope.rotary_dim / 2, 2});
  q_scale = arena.matrix(weights.q_scales.buffer ? tokens : 0, 1);
  block_out = arena.matrix(output_norms ? tokens : 0, config.hidden_size);
  normed = arena.activation(backend, tokens, config.hidden_size, normed_forms);
  attended = arena.activation(backend, tokens, attention_columns, attended_forms);
  gated = arena.activation(backend, tokens, config.intermediate_size, gated_forms);
  logit_hidden = arena.matrix(logit_rows, config.hidden_size);
  logit_normed = arena.activation(backend, logit_rows, config.hidden_size, weights.output_weight().activation_forms());
  logits = arena.matrix(logit_rows, options.features ? 0 : config.vocab_size);
  shrunk = arena.matrix(tokens, adapters.max_rank());
  addend = arena.matrix(tokens, adapters.max_rows());
  return arena.total_bytes();
}

DecoderWorkspace::DecoderWorkspace(Backend& backend, const ModelConfig& config, const DecoderWeights& weights,
                                   const AdapterBank& adapters, const ModelOptions& options) {
  memory_ = backend.allocate(lay_out(nullptr, backend, config, weights, adapters, options));
  lay_out(memory_->data(), backend, config, weights, adapters, options);
  const std::int64_t attention_columns = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  backend.reserve_workspace(options.max_batch_tokens,
                            std::max({config.hidden_size, attention_columns, config.intermediate_size}));
}

Decoder::Decoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
                 DecoderWeights weights, const WeightLoader& loader)
    : config_(config),
      weights_(std::move(weights)),
      backend_(backend),
      info_(make_model_info(checkpoint, config, loader.resident_bytes())),
      adapters_(backend, weights_.linears(), options.max_adapters),
      work_(backend, config_, weights_, adapters_, options),
      features_(options.features) {
  const std::vector<const ExpertMlp*> mixtures = weights_.mixtures();
  if (mixtures.empty()) return;
  experts_ =
      std::make_unique<ExpertRunner>(backend, config.hidden_size, options.max_batch_tokens, weights_.experts, mixtures);
}

PromptTraits Decoder::prompt_traits(std::span<const std::int32_t> prompt) const {
  const auto length = static_cast<std::int64_t>(prompt.size());
  return {.length = length, .kv_variant = static_cast<std::uint64_t>(weights_.rope.row(length, length - 1))};
}

TokenPlace Decoder::place(const PromptTraits& traits, std::int64_t position) const {
  return {.position = static_cast<std::int32_t>(position), .rope_row = weights_.rope.row(traits.length, position)};
}

Tensor Decoder::forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                        const LayerHook& hook) {
  begin(batch);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    attention_block(weights_.layers[i].attention, batch, kv[i]);
    if (weights_.layers[i].experts) {
      expert_mlp(weights_.layers[i], batch);
    } else {
      gated_mlp(weights_.layers[i].mlp, batch);
    }
    if (hook) hook(static_cast<int>(i));
  }
  return logits(batch, logit_rows);
}

std::vector<Linear*> DecoderWeights::linears() {
  std::vector<Linear*> all;
  for (DecoderLayer& layer : layers) {
    for (Linear* linear : {&layer.attention.qkv, &layer.attention.out, &layer.mlp.gate_up, &layer.mlp.down}) {
      if (linear->weight) all.push_back(linear);
    }
  }
  return all;
}

std::vector<const ExpertMlp*> DecoderWeights::mixtures() const {
  std::vector<const ExpertMlp*> all;
  for (const DecoderLayer& layer : layers) {
    if (layer.experts) all.push_back(layer.experts.get());
  }
  return all;
}

Tensor Decoder::addend(const Linear& linear, const Activation& x, const BatchTensors& batch) {
  const LowRank* const* updates = batch.adapters ? adapters_.updates(linear) : nullptr;
  if (updates == nullptr) return {};
  Tensor out = work_.addend.first_rows(batch.num_tokens);
  out.shape[1] = linear.weight->rows();
  backend_.lora({.x = x,
                 .num_tokens = batch.num_tokens,
                 .adapters = batch.adapters,
                 .updates = updates,
                 .num_updates = adapters_.slots(),
                 .shrunk = work_.shrunk.first_rows(batch.num_tokens),
                 .out = out});
  return out;
}

void Decoder::begin(const BatchTensors& batch) {
  INFERD_CHECK(batch.num_tokens > 0 && batch.num_tokens <= work_.hidden.dim(0));
  backend_.embedding(
      {.out = work_.hidden.first_rows(batch.num_tokens), .weight = weights_.embedding.get(), .ids = batch.tokens});
  const std::int64_t rows = weights_.rope.rows;
  Tensor inv_freq = weights_.inv_freq.tensor();
  if (rows > 1) inv_freq = Tensor(inv_freq.data, DType::f32, {rows, inv_freq.dim(0) / rows});
  INFERD_CHECK(rows == 1 || batch.rope_rows);
  backend_.rope_table({.positions = batch.positions,
                       .inv_freq = inv_freq,
                       .rows = rows > 1 ? batch.rope_rows : Tensor(),
                       .attention_scaling = weights_.rope.attention_scaling,
                       .out = work_.rope.first_rows(batch.num_tokens)});
  const Tensor scales = weights_.q_scales.tensor();
  if (!scales) return;
  backend_.gather_rows({.x = Tensor(scales.data, DType::f32, {scales.dim(0), 1}),
                        .rows = batch.positions,
                        .out = work_.q_scale.first_rows(batch.num_tokens)});
}

void Decoder::attention_block(const AttentionBlock& block, const BatchTensors& batch, const KvLayer& kv) {
  const Tensor x = work_.hidden.first_rows(batch.num_tokens);
  const Tensor qkv = work_.qkv.first_rows(batch.num_tokens);
  const float eps = static_cast<float>(config_.norm_eps);
  backend_.norm({.kind = NormKind::rms, .x = x, .weight = block.norm.tensor(), .eps = eps, .activation = work_.normed});
  backend_.linear({.x = work_.normed,
                   .num_tokens = batch.num_tokens,
                   .weight = block.qkv.weight.get(),
                   .addend = addend(block.qkv, work_.normed, batch),
                   .bias = block.qkv.bias.tensor(),
                   .out = qkv});
  backend_.qkv_post({.qkv = qkv,
                     .num_heads = config_.num_heads,
                     .num_kv_heads = config_.num_kv_heads,
                     .head_dim = config_.head_dim,
                     .q_norm = block.q_norm.tensor(),
                     .k_norm = block.k_norm.tensor(),
                     .norm_eps = eps,
                     .rope = work_.rope.first_rows(batch.num_tokens),
                     .rotary_dim = config_.rope.rotary_dim,
                     .style = config_.rope.style,
                     .q_scale = weights_.q_scales.buffer ? work_.q_scale.first_rows(batch.num_tokens) : Tensor(),
                     .k_shift = block.k_shift.tensor(),
                     .kv = kv,
                     .slots = batch.slots});
  backend_.attention({.qkv = qkv,
                      .num_heads = config_.num_heads,
                      .num_kv_heads = config_.num_kv_heads,
                      .head_dim = config_.head_dim,
                      .kv = kv,
                      .batch = &batch,
                      .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                      .sliding_window = block.sliding_window,
                      .out_activation = work_.attended});
  add_output(work_.attended, block.out, block.out_norm, batch);
}

void Decoder::add_output(const Activation& a, const Linear& linear, const DeviceVector& norm,
                         const BatchTensors& batch) {
  const Tensor x = work_.hidden.first_rows(batch.num_tokens);
  const bool normed = norm.buffer != nullptr;
  const Tensor product = normed ? work_.block_out.first_rows(batch.num_tokens) : x;
  backend_.linear({.x = a,
                   .num_tokens = batch.num_tokens,
                   .weight = linear.weight.get(),
                   .addend = addend(linear, a, batch),
                   .bias = linear.bias.tensor(),
                   .residual = normed ? Tensor() : x,
                   .out = product});
  if (!normed) return;
  backend_.norm({.kind = NormKind::rms,
                 .x = product,
                 .weight = norm.tensor(),
                 .eps = static_cast<float>(config_.norm_eps),
                 .residual = x,
                 .out = x});
}

void Decoder::gated_mlp(const GatedMlp& block, const BatchTensors& batch) {
  const Tensor x = work_.hidden.first_rows(batch.num_tokens);
  backend_.norm({.kind = NormKind::rms,
                 .x = x,
                 .weight = block.norm.tensor(),
                 .eps = static_cast<float>(config_.norm_eps),
                 .activation = work_.normed});
  backend_.linear({.x = work_.normed,
                   .num_tokens = batch.num_tokens,
                   .weight = block.gate_up.weight.get(),
                   .addend = addend(block.gate_up, work_.normed, batch),
                   .bias = block.gate_up.bias.tensor(),
                   .epilogue = Epilogue::silu_gated,
                   .out_activation = work_.gated});
  add_output(work_.gated, block.down, block.out_norm, batch);
}

void Decoder::expert_mlp(const DecoderLayer& layer, const BatchTensors& batch) {
  const Tensor x = work_.hidden.first_rows(batch.num_tokens);
  backend_.norm({.kind = NormKind::rms,
                 .x = x,
                 .weight = layer.mlp.norm.tensor(),
                 .eps = static_cast<float>(config_.norm_eps),
                 .out = experts_->input().first_rows(batch.num_tokens),
                 .activation = work_.normed});
  experts_->run(*layer.experts, work_.normed, x);
}

Tensor Decoder::logits(const BatchTensors& batch, const Tensor& logit_rows) {
  const std::int64_t rows = logit_rows ? logit_rows.dim(0) : 0;
  const Tensor out = work_.logits.first_rows(rows);
  if (rows == 0) return out;  // a chunk in the middle of a prompt
  const Tensor x = work_.logit_hidden.first_rows(rows);
  backend_.gather_rows({.x = work_.hidden.first_rows(batch.num_tokens), .rows = logit_rows, .out = x});
  backend_.norm({.kind = NormKind::rms,
                 .x = x,
                 .weight = weights_.norm.tensor(),
                 .eps = static_cast<float>(config_.norm_eps),
                 .out = features_ ? x : Tensor(),
                 .activation = features_ ? Activation() : work_.logit_normed});
  if (features_) return x;
  backend_.linear({.x = work_.logit_normed,
                   .num_tokens = rows,
                   .weight = &weights_.output_weight(),
                   .bias = weights_.output.bias.tensor(),
                   .out = out});
  return out;
}

}  // namespace inferd
