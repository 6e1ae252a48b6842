// Loading BERT, RoBERTa, GTE and Nomic encoders.
#include "engine/models/encoder_weights.h"

#include <array>
#include <string>
#include <string_view>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

/// How a family names the modules of a layer, and what it leaves out.
struct EncoderLayout {
  std::string_view layers;              // before the layer's number
  std::array<std::string_view, 3> qkv;  // one name: stored as one tensor
  std::string_view attention_out, attention_norm;
  std::string_view up, gate;  // gate empty: not gated; "+": in the same tensor, up first
  std::string_view down, output_norm;
  std::string_view embedding_norm;
};

constexpr EncoderLayout kBert{
    "encoder.layer.",         {"attention.self.query", "attention.self.key", "attention.self.value"},
    "attention.output.dense", "attention.output.LayerNorm",
    "intermediate.dense",     "",
    "output.dense",           "output.LayerNorm",
    "embeddings.LayerNorm"};
// arXiv:2407.19669 with the code it was published with.
constexpr EncoderLayout kGte{"encoder.layer.",      {"attention.qkv_proj", "", ""},
                             "attention.o_proj",    "attn_ln",
                             "mlp.up_gate_proj",    "+",
                             "mlp.down_proj",       "mlp_ln",
                             "embeddings.LayerNorm"};
// arXiv:2402.01613 likewise.
constexpr EncoderLayout kNomic{
    "encoder.layers.", {"attn.Wqkv", "", ""}, "attn.out_proj", "norm1", "mlp.fc11", "mlp.fc12", "mlp.fc2", "norm2",
    "emb_ln"};
// Both as transformers itself has them.
constexpr EncoderLayout kRotary{"layers.",
                                {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                "self_attn.o_proj",
                                "post_attention_layernorm",
                                "mlp.up_proj",
                                "mlp.gate_proj",
                                "mlp.down_proj",
                                "post_mlp_layernorm",
                                "embeddings.LayerNorm"};

const EncoderLayout& layout_of(const WeightLoader& loader, const ModelConfig& config) {
  if (config.family == "bert") return kBert;
  if (config.model_type == "nomic-bert") return kNomic;  // a GGUF file
  if (loader.has("layers.0.self_attn.q_proj.weight")) return kRotary;
  return config.model_type == "nomic_bert" ? kNomic : kGte;
}

LayerNorm load_norm(WeightLoader& loader, const std::string& module, std::int64_t size) {
  return {loader.vector(module + ".weight", size), loader.vector(module + ".bias", size)};
}

Linear load_up(WeightLoader& loader, const EncoderLayout& layout, const std::string& layer, const ModelConfig& config,
               Bias bias) {
  const std::int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const std::string up = layer + std::string(layout.up);
  if (layout.gate.empty()) return loader.linear({{up, inner}}, hidden, bias);
  if (layout.gate == "+") return loader.gated_linear(up, inner, hidden, bias, HalfOrder::up_first);
  return loader.linear({{layer + std::string(layout.gate), inner}, {up, inner}}, hidden, bias, {.gated = true});
}

EncoderLayer load_layer(WeightLoader& loader, const EncoderLayout& layout, const ModelConfig& config, int index) {
  const std::string layer = std::string(layout.layers) + std::to_string(index) + ".";
  const auto name = [&layer](std::string_view module) { return layer + std::string(module); };
  const std::int64_t hidden = config.hidden_size;
  const Bias bias = config.family == "bert" ? Bias::required : Bias::optional;
  EncoderLayer out;
  out.qkv =
      layout.qkv[1].empty()
          ? loader.linear({{name(layout.qkv[0]), 3 * hidden}}, hidden, bias)
          : loader.linear({{name(layout.qkv[0]), hidden}, {name(layout.qkv[1]), hidden}, {name(layout.qkv[2]), hidden}},
                          hidden, bias);
  out.attention_out = loader.linear({{name(layout.attention_out), hidden}}, hidden, bias);
  out.attention_norm = load_norm(loader, name(layout.attention_norm), hidden);
  out.up = load_up(loader, layout, layer, config, bias);
  out.down = loader.linear({{name(layout.down), hidden}}, config.intermediate_size, bias);
  out.output_norm = load_norm(loader, name(layout.output_norm), hidden);
  return out;
}

/// Rows of the type embedding: its configuration key is optional in both formats.
std::int64_t type_count(const Checkpoint& checkpoint) {
  const TensorNames names(checkpoint);
  const StoredTensor* types = checkpoint.find(names.stored("embeddings.token_type_embeddings.weight"));
  return types != nullptr && types->shape.size() == 2 ? types->shape[0] : 0;
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

void expect_text(const Checkpoint& checkpoint, const Json& json, const char* key, std::string_view wanted) {
  const std::string found = text_of(json, key);
  if (found.empty() || found == wanted) return;
  throw CheckpointError(log_safe(checkpoint.path()) + "/config.json", key, std::string(wanted), log_safe(found));
}

void expect_flag(const Checkpoint& checkpoint, const Json& json, const char* key, bool wanted) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_boolean() || found->get<bool>() == wanted) return;
  throw CheckpointError(log_safe(checkpoint.path()) + "/config.json", key, wanted ? "true" : "false",
                        wanted ? "false" : "true");
}

Epilogue gated_activation(const Checkpoint& checkpoint, const Json& json) {
  std::string name = text_of(json, "hidden_act");
  if (name.empty()) name = text_of(json, "activation_function");
  if (name == "gelu") return Epilogue::gelu_erf_gated;
  if (name == "silu" || name == "swiglu") return Epilogue::silu_gated;
  throw CheckpointError(log_safe(checkpoint.path()) + "/config.json", "hidden_act", "gelu, silu or swiglu",
                        name.empty() ? "none" : log_safe(name));
}

/// Refuses relatives that compute something else under the same model_type; returns the MLP's activation.
Epilogue check_kind(const Checkpoint& checkpoint, const ModelConfig& config) {
  const bool bert = config.family == "bert";
  if (static_cast<std::int64_t>(config.num_heads) * config.head_dim != config.hidden_size ||
      config.num_kv_heads != config.num_heads) {
    throw CheckpointError(log_safe(checkpoint.path()), "num_attention_heads", "heads that share out hidden_size evenly",
                          std::to_string(config.num_heads));
  }
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) return bert ? Epilogue::gelu_erf : Epilogue::silu_gated;  // GGUF has one of each
  if (bert) {
    expect_text(checkpoint, *json, "hidden_act", "gelu");
    expect_text(checkpoint, *json, "position_embedding_type", "absolute");
    return Epilogue::gelu_erf;
  }
  expect_text(checkpoint, *json, "position_embedding_type", "rope");
  expect_text(checkpoint, *json, "layer_norm_type", "layer_norm");
  for (const char* key : {"prenorm", "use_rms_norm", "rotary_emb_interleaved", "logn_attention_scale", "causal"}) {
    expect_flag(checkpoint, *json, key, false);
  }
  const auto moe = json->find("moe_every_n_layers");
  if (moe != json->end() && moe->is_number() && moe->get<double>() > 0) {
    throw CheckpointError(log_safe(checkpoint.path()) + "/config.json", "moe_every_n_layers", "0: no experts",
                          moe->dump());
  }
  return gated_activation(checkpoint, *json);
}

/// RoBERTa counts text positions from pad_token_id + 1 on, since padding has a position of its own.
std::int64_t first_position(const Checkpoint& checkpoint, const ModelConfig& config) {
  if (config.model_type != "roberta" && config.model_type != "xlm-roberta") return 0;
  const std::int64_t first = config.pad_token_id + 1;
  if (first < 1 || first >= config.max_position_embeddings) {
    throw CheckpointError(
        log_safe(checkpoint.path()) + "/config.json", "pad_token_id",
        "an id below max_position_embeddings - 1, " + std::to_string(config.max_position_embeddings - 1),
        std::to_string(config.pad_token_id));
  }
  return first;
}

}  // namespace

EncoderWeights load_encoder_weights(WeightLoader& loader, const Checkpoint& checkpoint, const ModelConfig& config) {
  EncoderWeights weights;
  weights.activation = check_kind(checkpoint, config);
  const EncoderLayout& layout = layout_of(loader, config);
  const std::int64_t hidden = config.hidden_size;
  weights.words = loader.embedding("embeddings.word_embeddings.weight", config.vocab_size, hidden);
  weights.max_positions = config.max_position_embeddings;
  if (config.family == "bert") {
    const std::int64_t first = first_position(checkpoint, config);
    weights.positions =
        loader.embedding("embeddings.position_embeddings.weight", config.max_position_embeddings, hidden, first);
    weights.max_positions -= first;
  } else {
    const RopeFrequencies rope = rope_frequencies(config.rope, config.max_position_embeddings);
    weights.inv_freq = loader.upload(rope.inv_freq);
    weights.rope_scaling = rope.attention_scaling;
  }
  weights.type_count = type_count(checkpoint);
  if (weights.type_count > 0) {
    weights.types = loader.embedding("embeddings.token_type_embeddings.weight", weights.type_count, hidden);
  }
  weights.embedding_norm = load_norm(loader, std::string(layout.embedding_norm), hidden);
  for (int i = 0; i < config.num_layers; ++i) weights.layers.push_back(load_layer(loader, layout, config, i));
  return weights;
}

}  // namespace inferd
