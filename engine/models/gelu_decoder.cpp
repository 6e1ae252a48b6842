// The stages of decoders with LayerNorms and GELU MLPs.
#include "engine/models/gelu_decoder.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/models/arena_layout.h"
#include "engine/models/layers.h"

namespace inferd {
namespace {

LayerNorm load_norm(WeightLoader& loader, const std::string& module, std::int64_t size, float factor = 1.0f) {
  return {loader.vector(module + ".weight", size, factor), loader.vector(module + ".bias", size, factor)};
}

GeluBlockNorm load_block_norm(WeightLoader& loader, const std::string& module, std::int64_t size, float factor) {
  GeluBlockNorm out;
  out.norm = load_norm(loader, module, size);
  if (factor != 0.0f) out.residual = load_norm(loader, module, size, factor);
  return out;
}

GeluLayer load_layer(WeightLoader& loader, const ModelConfig& config, int index, QkvRows rows, float factor) {
  const std::string layer = "model.layers." + std::to_string(index) + ".";
  const std::int64_t hidden = config.hidden_size;
  GeluLayer out;
  out.attention_norm = load_block_norm(loader, layer + "input_layernorm", hidden, factor);
  const std::string qkv = layer + "self_attn.qkv_proj";
  out.qkv = rows == QkvRows::by_head ? loader.linear_by_head(qkv, config.num_heads, config.head_dim, hidden)
                                     : loader.linear({{qkv, 3 * hidden}}, hidden, Bias::required);
  out.qkv.slices = {{.module = qkv, .rows = 3 * hidden, .by_head_dim = config.head_dim}};
  out.out = loader.linear({{layer + "self_attn.o_proj", hidden}}, hidden, Bias::required);
  out.out.slices = {{layer + "self_attn.o_proj", 0, hidden}};
  out.mlp_norm = load_block_norm(loader, layer + "post_attention_layernorm", hidden, factor);
  out.up = loader.linear({{layer + "mlp.up_proj", config.intermediate_size}}, hidden, Bias::required);
  out.up.slices = {{layer + "mlp.up_proj", 0, config.intermediate_size}};
  out.down = loader.linear({{layer + "mlp.down_proj", hidden}}, config.intermediate_size, Bias::required);
  out.down.slices = {{layer + "mlp.down_proj", 0, hidden}};
  return out;
}

}  // namespace

namespace {

std::vector<AdapterLayer> adapter_layers(std::vector<GeluLayer>& layers, Backend& backend) {
  std::vector<AdapterLayer> all;
  for (GeluLayer& layer : layers) {
    for (Linear* linear : {&layer.qkv, &layer.out, &layer.up, &layer.down}) all.push_back({linear, &backend});
  }
  return all;
}

}  // namespace

GeluWeights load_gelu_weights(WeightLoader& loader, const ModelConfig& config, QkvRows rows, float residual_factor) {
  if (static_cast<std::int64_t>(config.num_heads) * config.head_dim != config.hidden_size ||
      config.num_kv_heads != config.num_heads) {
    throw CheckpointError(log_safe(config.name), "num_attention_heads", "heads that share out hidden_size evenly",
                          std::to_string(config.num_heads));
  }
  GeluWeights weights;
  weights.embedding = loader.embedding("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  for (int i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(load_layer(loader, config, i, rows, residual_factor));
  }
  weights.norm = load_norm(loader, "model.norm", config.hidden_size);
  if (!config.tie_word_embeddings) {
    weights.output = loader.linear({{"lm_head", config.vocab_size}}, config.hidden_size, Bias::optional);
  }
  return weights;
}

GeluDecoder::GeluDecoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                         const ModelOptions& options, std::int64_t max_tokens, GeluWeights weights,
                         const WeightLoader& loader)
    : config_(config),
      backend_(backend),
      weights_(std::move(weights)),
      info_(make_model_info(checkpoint, config, loader.resident_bytes())),
      adapters_(adapter_layers(weights_.layers, backend), options.max_adapters) {
  memory_ = backend.allocate(lay_out(nullptr, max_tokens, options.max_logit_rows));
  lay_out(memory_->data(), max_tokens, options.max_logit_rows);
  backend.reserve_workspace(max_tokens, std::max(config.hidden_size, config.intermediate_size));
}

std::size_t GeluDecoder::lay_out(void* base, std::int64_t tokens, std::int64_t logit_rows) {
  ArenaLayout arena(base);
  std::uint32_t normed_forms = 0, attended_forms = 0, widened_forms = 0;
  for (const GeluLayer& layer : weights_.layers) {
    normed_forms |= layer.qkv.weight->activation_forms() | layer.up.weight->activation_forms();
    attended_forms |= layer.out.weight->activation_forms();
    widened_forms |= layer.down.weight->activation_forms();
  }
  hidden_ = arena.matrix(tokens, config_.hidden_size);
  qkv_ = arena.matrix(tokens, 3 * config_.hidden_size);
  normed_ = arena.activation(backend_, tokens, config_.hidden_size, normed_forms);
  attended_ = arena.activation(backend_, tokens, config_.hidden_size, attended_forms);
  widened_ = arena.activation(backend_, tokens, config_.intermediate_size, widened_forms);
  logit_hidden_ = arena.matrix(logit_rows, config_.hidden_size);
  logit_normed_ =
      arena.activation(backend_, logit_rows, config_.hidden_size, weights_.output_weight().activation_forms());
  logits_ = arena.matrix(logit_rows, config_.vocab_size);
  updates_ = adapters_.lay_out(arena, tokens);
  return arena.total_bytes();
}

Tensor GeluDecoder::forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                            const LayerHook& hook) {
  INFERD_CHECK(batch.num_tokens > 0 && batch.num_tokens <= hidden_.dim(0));
  begin(batch);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    attention_block(weights_.layers[i], batch, kv[i]);
    mlp_block(weights_.layers[i], batch);
    if (hook) hook(static_cast<int>(i));
  }
  return logits(batch, logit_rows);
}

void GeluDecoder::enter(const GeluBlockNorm& norm, const Tensor& x) {
  backend_.norm({.kind = NormKind::layer,
                 .x = x,
                 .weight = norm.norm.weight.tensor(),
                 .bias = norm.norm.bias.tensor(),
                 .eps = eps(),
                 .activation = normed_});
  if (!norm.residual.weight.buffer) return;
  backend_.norm({.kind = NormKind::layer,
                 .x = x,
                 .weight = norm.residual.weight.tensor(),
                 .bias = norm.residual.bias.tensor(),
                 .eps = eps(),
                 .out = x});
}

Tensor GeluDecoder::addend(const Linear& linear, const Activation& x, const BatchTensors& batch) const {
  return adapters_.addend(backend_, linear, x, batch.num_tokens, batch.adapters, updates_);
}

void GeluDecoder::attention_block(const GeluLayer& layer, const BatchTensors& batch, const KvLayer& kv) {
  const Tensor x = hidden(batch);
  const Tensor qkv = qkv_.first_rows(batch.num_tokens);
  enter(layer.attention_norm, x);
  backend_.linear({.x = normed_,
                   .num_tokens = batch.num_tokens,
                   .weight = layer.qkv.weight.get(),
                   .addend = addend(layer.qkv, normed_, batch),
                   .bias = layer.qkv.bias.tensor(),
                   .out = qkv});
  attend(qkv, batch, kv);
  backend_.linear({.x = attended_,
                   .num_tokens = batch.num_tokens,
                   .weight = layer.out.weight.get(),
                   .addend = addend(layer.out, attended_, batch),
                   .bias = layer.out.bias.tensor(),
                   .residual = x,
                   .out = x});
}

void GeluDecoder::mlp_block(const GeluLayer& layer, const BatchTensors& batch) {
  const Tensor x = hidden(batch);
  enter(layer.mlp_norm, x);
  backend_.linear({.x = normed_,
                   .num_tokens = batch.num_tokens,
                   .weight = layer.up.weight.get(),
                   .addend = addend(layer.up, normed_, batch),
                   .bias = layer.up.bias.tensor(),
                   .epilogue = Epilogue::gelu_tanh,
                   .out_activation = widened_});
  backend_.linear({.x = widened_,
                   .num_tokens = batch.num_tokens,
                   .weight = layer.down.weight.get(),
                   .addend = addend(layer.down, widened_, batch),
                   .bias = layer.down.bias.tensor(),
                   .residual = x,
                   .out = x});
}

Tensor GeluDecoder::logits(const BatchTensors& batch, const Tensor& logit_rows) {
  const std::int64_t rows = logit_rows ? logit_rows.dim(0) : 0;
  const Tensor out = logits_.first_rows(rows);
  if (rows == 0) return out;  // a chunk in the middle of a prompt
  const Tensor x = logit_hidden_.first_rows(rows);
  backend_.gather_rows({.x = hidden(batch), .rows = logit_rows, .out = x});
  backend_.norm({.kind = NormKind::layer,
                 .x = x,
                 .weight = weights_.norm.weight.tensor(),
                 .bias = weights_.norm.bias.tensor(),
                 .eps = eps(),
                 .activation = logit_normed_});
  backend_.linear({.x = logit_normed_,
                   .num_tokens = rows,
                   .weight = &weights_.output_weight(),
                   .bias = weights_.output.bias.tensor(),
                   .out = out});
  return out;
}

}  // namespace inferd
