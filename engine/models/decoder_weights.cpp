// Loading the weights of decoders with rotary attention and gated MLPs.
#include "engine/models/key_shift.h"
#include "engine/models/layers.h"

namespace inferd {
namespace {

/// q, k and v, stacked by rows: in the files one tensor or three.
Linear load_qkv(WeightLoader& loader, const std::string& layer, const ModelConfig& config,
                const DecoderLayerOptions& options) {
  const std::int64_t q_rows = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  const std::int64_t kv_rows = static_cast<std::int64_t>(config.num_kv_heads) * config.head_dim;
  Linear qkv;
  if (options.fused_qkv && loader.has(layer + "self_attn.qkv_proj.weight")) {
    qkv = loader.linear({{layer + "self_attn.qkv_proj", q_rows + 2 * kv_rows, {q_rows, kv_rows, kv_rows}}},
                        config.hidden_size, options.qkv_bias, {.shard = Shard::rows});
  } else {
    qkv = loader.linear({{layer + "self_attn.q_proj", q_rows},
                         {layer + "self_attn.k_proj", kv_rows},
                         {layer + "self_attn.v_proj", kv_rows}},
                        config.hidden_size, options.qkv_bias, {.shard = Shard::rows});
  }
  const int interleaved = config.rope.interleaved_rows ? config.head_dim : 0;
  qkv.slices = {{layer + "self_attn.q_proj", 0, q_rows, interleaved},
                {layer + "self_attn.k_proj", q_rows, kv_rows, interleaved},
                {layer + "self_attn.v_proj", q_rows + kv_rows, kv_rows, 0}};
  if (interleaved == 0) qkv.slices.push_back({layer + "self_attn.qkv_proj", 0, q_rows + 2 * kv_rows, 0});
  return qkv;
}

/// A swing beyond which 8 bits a run of 32 components are too few for the others: keys vary by about 1, steps would be
/// coarser than 1/8.
constexpr float kLargestSwing = 16.0f;

/// Empty without a bias on the keys, or where a norm follows it.
KeyShift load_key_shift(WeightLoader& loader, const std::string& layer, const ModelConfig& config,
                        const DecoderLayerOptions& options, const RopeVariants& rope) {
  const std::int64_t q_rows = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  const std::int64_t kv_rows = static_cast<std::int64_t>(config.num_kv_heads) * config.head_dim;
  if (options.qk_norm) return {};
  std::vector<float> bias;
  if (options.fused_qkv && loader.has(layer + "self_attn.qkv_proj.weight")) {
    bias = loader.bias({layer + "self_attn.qkv_proj", q_rows + 2 * kv_rows}, Bias::optional);
    if (!bias.empty()) bias = {bias.begin() + q_rows, bias.begin() + q_rows + kv_rows};
  } else {
    bias = loader.bias({layer + "self_attn.k_proj", kv_rows}, Bias::optional);
  }
  const std::span frequencies(rope.inv_freq.data(), static_cast<std::size_t>(config.rope.rotary_dim / 2));
  return key_shift(bias, config.head_dim, config.rope, frequencies, rope.attention_scaling);
}

GatedMlp load_mlp(WeightLoader& loader, const std::string& layer, const ModelConfig& config,
                  const DecoderLayerOptions& options) {
  const std::int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  GatedMlp mlp;
  mlp.norm = loader.vector(layer + "post_attention_layernorm.weight", hidden);
  mlp.gate_up = options.fused_gate_up
                    ? loader.gated_linear(layer + "mlp.gate_up_proj", inner, hidden, Bias::optional)
                    : loader.linear({{layer + "mlp.gate_proj", inner}, {layer + "mlp.up_proj", inner}}, hidden,
                                    Bias::optional, {.gated = true, .shard = Shard::rows});
  mlp.gate_up.slices = {{layer + "mlp.gate_proj", 0, inner, 0},
                        {layer + "mlp.up_proj", inner, inner, 0},
                        {layer + "mlp.gate_up_proj", 0, 2 * inner, 0}};
  mlp.down = loader.linear({{layer + "mlp.down_proj", hidden}}, inner, Bias::optional, {.shard = Shard::columns});
  mlp.down.slices = {{layer + "mlp.down_proj", 0, hidden, 0}};
  if (options.output_norms) mlp.out_norm = loader.vector(layer + "post_mlp_layernorm.weight", hidden);
  return mlp;
}

void load_layer(WeightLoader& loader, const ModelConfig& config, int index, const DecoderLayerOptions& options,
                DecoderWeights& weights) {
  const std::string layer = "model.layers." + std::to_string(index) + ".";
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t q_rows = static_cast<std::int64_t>(config.num_heads) * config.head_dim;
  DecoderLayer& out = weights.layers.emplace_back();
  AttentionBlock& attention = out.attention;
  attention.norm = loader.vector(layer + "input_layernorm.weight", hidden);
  attention.qkv = load_qkv(loader, layer, config, options);
  const KeyShift shift = load_key_shift(loader, layer, config, options, weights.rope);
  if (!shift.mean.empty()) attention.k_shift = loader.upload(shift.mean, Shard::rows);
  if (shift.swing > kLargestSwing) weights.fine_kv_layers.push_back(index);
  if (options.qk_norm) {
    attention.q_norm = loader.vector(layer + "self_attn.q_norm.weight", config.head_dim);
    attention.k_norm = loader.vector(layer + "self_attn.k_norm.weight", config.head_dim);
  }
  attention.out =
      loader.linear({{layer + "self_attn.o_proj", hidden}}, q_rows, Bias::optional, {.shard = Shard::columns});
  attention.out.slices = {{layer + "self_attn.o_proj", 0, hidden, 0}};
  attention.sliding_window = index >= config.max_window_layers ? config.sliding_window : 0;
  if (options.output_norms) {
    attention.out_norm = loader.vector(layer + "post_self_attn_layernorm.weight", hidden);
  }
  if (options.experts != nullptr && options.experts->sparse(index)) {
    out.mlp.norm = loader.vector(layer + "post_attention_layernorm.weight", hidden);
    out.experts = load_expert_mlp(loader, layer, hidden, *options.experts);
    return;
  }
  out.mlp = load_mlp(loader, layer, config, options);
}

}  // namespace

DecoderWeights load_decoder_weights(WeightLoader& loader, const ModelConfig& config, Backend& backend,
                                    const ModelOptions& options, const DecoderLayerOptions& layer_options) {
  const bool divided = options.host_layers > 0;
  DecoderWeights weights;
  if (layer_options.experts != nullptr) weights.experts = *layer_options.experts;
  if (divided) loader.use(*options.host);
  weights.embedding = loader.embedding("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  weights.rope = rope_variants(config);
  for (int i = 0; i < config.num_layers; ++i) {
    if (i == options.host_layers) loader.use(backend);
    load_layer(loader, config, i, layer_options, weights);
  }
  loader.use(backend);
  weights.norm = loader.vector("model.norm.weight", config.hidden_size);
  if (!config.tie_word_embeddings) {
    const Shard shard = config.vocab_size % backend.ranks() == 0 ? Shard::rows : Shard::none;
    weights.output =
        loader.linear({{"lm_head", config.vocab_size}}, config.hidden_size, Bias::optional, {.shard = shard});
  } else if (divided) {
    weights.output = loader.linear({{"model.embed_tokens", config.vocab_size}}, config.hidden_size, Bias::optional);
  }
  // Tied files may hold the matrix twice; old ones the frequencies, which follow from the configuration.
  loader.finish({"lm_head.weight", "rotary_emb.inv_freq", "rotary_pos_emb.inv_freq", "rope_freqs.weight",
                 "rope_factors_long.weight", "rope_factors_short.weight", "score.weight", "cls.output.weight"});
  return weights;
}

LoadedModel load_decoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                         const ModelOptions& options, const DecoderLayerOptions& layer_options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights = load_decoder_weights(loader, config, backend, options, layer_options);
  LoadedModel model;
  model.decoder = std::make_unique<Decoder>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
