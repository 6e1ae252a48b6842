// The stages of a decoder's forward.
#include "engine/models/layers.h"

#include <algorithm>
#include <cmath>

#include "engine/models/arena_layout.h"
#include "engine/models/rank_config.h"
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

std::size_t DecoderWorkspace::lay_out(void* base, const DecoderPart& part, const ModelConfig& config,
                                      const DecoderWeights& weights, const AdapterBank& adapters,
                                      const ModelOptions& options) {
  ArenaLayout arena(base);
  const Backend& backend = part.backend;
  const std::int64_t tokens = options.max_batch_tokens, logit_rows = part.output ? options.max_logit_rows : 0;
  const std::int64_t attention_columns = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  std::uint32_t normed_forms = 0, attended_forms = 0, gated_forms = 0;
  bool output_norms = false;
  for (const DecoderLayer& layer : part.layers) {
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
  q_scale = arena.matrix(weights.q_scales.empty() ? 0 : tokens, 1);
  block_out = arena.matrix(output_norms ? tokens : 0, config.hidden_size);
  normed = arena.activation(backend, tokens, config.hidden_size, normed_forms);
  attended = arena.activation(backend, tokens, attention_columns, attended_forms);
  gated = arena.activation(backend, tokens, config.intermediate_size, gated_forms);
  logit_hidden = arena.matrix(logit_rows, config.hidden_size);
  if (part.output != nullptr) {
    logit_normed = arena.activation(backend, logit_rows, config.hidden_size, part.output->activation_forms());
  }
  logits = arena.matrix(logit_rows, options.features ? 0 : config.vocab_size);
  updates = adapters.lay_out(arena, tokens);
  return arena.total_bytes();
}

DecoderWorkspace::DecoderWorkspace(const DecoderPart& part, const ModelConfig& config, const DecoderWeights& weights,
                                   const AdapterBank& adapters, const ModelOptions& options) {
  memory_ = part.backend.allocate(lay_out(nullptr, part, config, weights, adapters, options));
  lay_out(memory_->data(), part, config, weights, adapters, options);
  const std::int64_t attention_columns = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  part.backend.reserve_workspace(options.max_batch_tokens,
                                 std::max({config.hidden_size, attention_columns, config.intermediate_size}));
  if (part.output != nullptr && part.output->rows() < config.vocab_size) {  // a rank's, on their way to all
    part.backend.reserve_workspace(options.max_logit_rows, part.output->rows());
  }
}

namespace {

/// Where each layer that adapters may update is.
std::vector<AdapterLayer> adapter_layers(std::vector<DecoderLayer>& layers, std::size_t host_layers, Backend* host,
                                         Backend& backend) {
  std::vector<AdapterLayer> all;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Backend* where = i < host_layers ? host : &backend;
    DecoderLayer& layer = layers[i];
    for (Linear* linear : {&layer.attention.qkv, &layer.attention.out, &layer.mlp.gate_up, &layer.mlp.down}) {
      if (linear->weight) all.push_back({linear, where});
    }
    if (!layer.experts) continue;
    for (Linear* linear : layer.experts->linears()) all.push_back({linear, where});
  }
  return all;
}

}  // namespace

Decoder::Place::Place(const DecoderPart& part, const ModelConfig& config, const DecoderWeights& weights,
                      const AdapterBank& adapters, const ModelOptions& options)
    : backend(part.backend),
      work(part, config, weights, adapters, options),
      inv_freq(to_device(part.backend, weights.rope.inv_freq)) {
  if (!weights.q_scales.empty()) q_scales = to_device(part.backend, weights.q_scales);
  std::vector<const ExpertMlp*> mixtures;
  for (const DecoderLayer& layer : part.layers) {
    if (layer.experts) mixtures.push_back(layer.experts.get());
  }
  if (mixtures.empty()) return;
  experts =
      std::make_unique<ExpertRunner>(backend, config.hidden_size, options.max_batch_tokens, weights.experts, mixtures);
}

Decoder::Decoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
                 DecoderWeights weights, const WeightLoader& loader)
    : config_(rank_config(config, backend.ranks())),
      weights_(std::move(weights)),
      host_layers_(options.host_layers),
      info_(make_model_info(checkpoint, config, loader.resident_bytes())),
      adapters_(adapter_layers(weights_.layers, static_cast<std::size_t>(options.host_layers), options.host, backend),
                options.max_adapters),
      features_(options.features) {
  info_.num_experts = weights_.experts.num_experts;
  info_.experts_per_token = weights_.experts.top_k;
  const std::span<const DecoderLayer> layers = weights_.layers;
  const auto below = static_cast<std::size_t>(host_layers_);
  INFERD_CHECK(below <= layers.size());
  const auto make = [&](const DecoderPart& part) {
    return std::make_unique<Place>(part, config_, weights_, adapters_, options);
  };
  if (below > 0) lower_ = make({*options.host, layers.first(below)});
  upper_ = make({backend, layers.subspan(below), &weights_.output_weight()});
  weights_.rope.inv_freq = {};
}

bool Decoder::capturable() const {
  const bool grouped = std::all_of(weights_.layers.begin(), weights_.layers.end(), [](const DecoderLayer& layer) {
    return !layer.experts || layer.experts->grouped();
  });
  return !lower_ && (!upper_->experts || (grouped && adapters_.slots() == 0));
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
  const BatchTensors& below = lower_ && batch.host != nullptr ? *batch.host : batch;
  at_ = lower_ ? lower_.get() : upper_.get();
  const std::int64_t wanted = logit_rows ? logit_rows.dim(0) : 0;
  DecoderRows rows;
  bool narrow = false;
  embed(below);
  rotate(below);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    if (lower_ && static_cast<int>(i) == host_layers_) move_to(*upper_, batch);
    const BatchTensors& here = static_cast<int>(i) < host_layers_ ? below : batch;
    const DecoderLayer& layer = weights_.layers[i];
    append_keys(layer.attention, here, kv[i]);
    rows = all_rows(here);
    narrow = i + 1 == weights_.layers.size() && narrows(batch, wanted);
    if (!narrow || wanted > 0) {
      attend(layer.attention, here, kv[i]);
      if (narrow) rows = {.x = gather(logit_rows)};
      if (layer.experts) {
        expert_mlp(layer, rows);
      } else {
        gated_mlp(layer.mlp, rows);
      }
    }
    if (hook) hook(static_cast<int>(i));
  }
  if (at_ != upper_.get()) move_to(*upper_, batch);        // only the output is there
  if (wanted == 0) return at_->work.logits.first_rows(0);  // a chunk in the middle of a prompt
  return logits(narrow ? rows.x : gather(logit_rows));
}

bool Decoder::narrows(const BatchTensors& batch, std::int64_t wanted) const {
  return at_ == upper_.get() && wanted < batch.num_tokens && !batch.adapters;
}

DecoderRows Decoder::all_rows(const BatchTensors& batch) const {
  return {.x = at_->work.hidden.first_rows(batch.num_tokens), .adapters = batch.adapters};
}

Tensor Decoder::gather(const Tensor& rows) {
  const Tensor out = at_->work.logit_hidden.first_rows(rows.dim(0));
  at_->backend.gather_rows({.x = at_->work.hidden, .rows = rows, .out = out});
  return out;
}

void Decoder::move_to(Place& next, const BatchTensors& batch) {
  const Tensor from = at_->work.hidden.first_rows(batch.num_tokens);
  at_->backend.synchronize();
  next.backend.upload(next.work.hidden.data, from.data, static_cast<std::size_t>(from.elements()) * sizeof(float));
  at_ = &next;
  rotate(batch);
}

Tensor Decoder::addend(const Linear& linear, const Activation& a, const DecoderRows& rows) {
  return adapters_.addend(at_->backend, linear, a, rows.count(), rows.adapters, at_->work.updates);
}

void Decoder::embed(const BatchTensors& batch) {
  INFERD_CHECK(batch.num_tokens > 0 && batch.num_tokens <= at_->work.hidden.dim(0));
  at_->backend.embedding(
      {.out = at_->work.hidden.first_rows(batch.num_tokens), .weight = weights_.embedding.get(), .ids = batch.tokens});
}

void Decoder::rotate(const BatchTensors& batch) {
  const std::int64_t rows = weights_.rope.rows;
  Tensor inv_freq = at_->inv_freq.tensor();
  if (rows > 1) inv_freq = Tensor(inv_freq.data, DType::f32, {rows, inv_freq.dim(0) / rows});
  INFERD_CHECK(rows == 1 || batch.rope_rows);
  at_->backend.rope_table({.positions = batch.positions,
                           .inv_freq = inv_freq,
                           .rows = rows > 1 ? batch.rope_rows : Tensor(),
                           .attention_scaling = weights_.rope.attention_scaling,
                           .out = at_->work.rope.first_rows(batch.num_tokens)});
  const Tensor scales = at_->q_scales.tensor();
  if (!scales) return;
  at_->backend.gather_rows({.x = Tensor(scales.data, DType::f32, {scales.dim(0), 1}),
                            .rows = batch.positions,
                            .out = at_->work.q_scale.first_rows(batch.num_tokens)});
}

void Decoder::append_keys(const AttentionBlock& block, const BatchTensors& batch, const KvLayer& kv) {
  const DecoderRows rows = all_rows(batch);
  const Tensor qkv = at_->work.qkv.first_rows(batch.num_tokens);
  const float eps = static_cast<float>(config_.norm_eps);
  at_->backend.norm(
      {.kind = NormKind::rms, .x = rows.x, .weight = block.norm.tensor(), .eps = eps, .activation = at_->work.normed});
  at_->backend.linear({.x = at_->work.normed,
                       .num_tokens = batch.num_tokens,
                       .weight = block.qkv.weight.get(),
                       .addend = addend(block.qkv, at_->work.normed, rows),
                       .bias = block.qkv.bias.tensor(),
                       .out = qkv});
  at_->backend.qkv_post({.qkv = qkv,
                         .num_heads = config_.num_heads,
                         .num_kv_heads = config_.num_kv_heads,
                         .head_dim = config_.head_dim,
                         .q_norm = block.q_norm.tensor(),
                         .k_norm = block.k_norm.tensor(),
                         .norm_eps = eps,
                         .rope = at_->work.rope.first_rows(batch.num_tokens),
                         .rotary_dim = config_.rope.rotary_dim,
                         .style = config_.rope.style,
                         .q_scale = at_->q_scales.buffer ? at_->work.q_scale.first_rows(batch.num_tokens) : Tensor(),
                         .k_shift = block.k_shift.tensor(),
                         .kv = kv,
                         .slots = batch.slots});
}

void Decoder::attend(const AttentionBlock& block, const BatchTensors& batch, const KvLayer& kv) {
  at_->backend.attention({.qkv = at_->work.qkv.first_rows(batch.num_tokens),
                          .num_heads = config_.num_heads,
                          .num_kv_heads = config_.num_kv_heads,
                          .head_dim = config_.head_dim,
                          .kv = kv,
                          .batch = &batch,
                          .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                          .sliding_window = block.sliding_window,
                          .out_activation = at_->work.attended});
  add_output(at_->work.attended, block.out, block.out_norm, all_rows(batch));
}

void Decoder::add_output(const Activation& a, const Linear& linear, const DeviceVector& norm, const DecoderRows& rows) {
  const bool normed = norm.buffer != nullptr;
  const Tensor product = normed ? at_->work.block_out.first_rows(rows.count()) : rows.x;
  at_->backend.linear({.x = a,
                       .num_tokens = rows.count(),
                       .weight = linear.weight.get(),
                       .addend = addend(linear, a, rows),
                       .bias = linear.bias.tensor(),
                       .residual = normed ? Tensor() : rows.x,
                       .out = product});
  if (!normed) return;
  at_->backend.norm({.kind = NormKind::rms,
                     .x = product,
                     .weight = norm.tensor(),
                     .eps = static_cast<float>(config_.norm_eps),
                     .residual = rows.x,
                     .out = rows.x});
}

void Decoder::gated_mlp(const GatedMlp& block, const DecoderRows& rows) {
  at_->backend.norm({.kind = NormKind::rms,
                     .x = rows.x,
                     .weight = block.norm.tensor(),
                     .eps = static_cast<float>(config_.norm_eps),
                     .activation = at_->work.normed});
  at_->backend.linear({.x = at_->work.normed,
                       .num_tokens = rows.count(),
                       .weight = block.gate_up.weight.get(),
                       .addend = addend(block.gate_up, at_->work.normed, rows),
                       .bias = block.gate_up.bias.tensor(),
                       .epilogue = Epilogue::silu_gated,
                       .out_activation = at_->work.gated});
  add_output(at_->work.gated, block.down, block.out_norm, rows);
}

void Decoder::expert_mlp(const DecoderLayer& layer, const DecoderRows& rows) {
  at_->backend.norm({.kind = NormKind::rms,
                     .x = rows.x,
                     .weight = layer.mlp.norm.tensor(),
                     .eps = static_cast<float>(config_.norm_eps),
                     .out = at_->experts->input().first_rows(rows.count()),
                     .activation = at_->work.normed});
  at_->experts->run(*layer.experts, at_->work.normed, rows.x, {&adapters_, rows.adapters, at_->work.updates});
}

Tensor Decoder::logits(const Tensor& x) {
  const Tensor out = at_->work.logits.first_rows(x.dim(0));
  at_->backend.norm({.kind = NormKind::rms,
                     .x = x,
                     .weight = weights_.norm.tensor(),
                     .eps = static_cast<float>(config_.norm_eps),
                     .out = features_ ? x : Tensor(),
                     .activation = features_ ? Activation() : at_->work.logit_normed});
  if (features_) return x;
  at_->backend.linear({.x = at_->work.logit_normed,
                       .num_tokens = x.dim(0),
                       .weight = &weights_.output_weight(),
                       .bias = weights_.output.bias.tensor(),
                       .out = out});
  return out;
}

}  // namespace inferd
