// The table of tensor names: Hugging Face modules and their GGUF counterparts.
#include "engine/models/tensor_names.h"

#include <array>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

struct NamePair {
  std::string_view hugging_face;
  std::string_view gguf;
};

/// Modules outside the layers.
constexpr std::array<NamePair, 7> kGlobalNames = {{
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"embeddings.word_embeddings", "token_embd"},
    {"embeddings.position_embeddings", "position_embd"},
    {"embeddings.token_type_embeddings", "token_types"},
    {"embeddings.LayerNorm", "token_embd_norm"},
}};

/// Modules of one layer, after "model.layers.N." or "encoder.layer.N.".
constexpr std::array<NamePair, 19> kLayerNames = {{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
}};

template <std::size_t kSize>
std::string_view counterpart(const std::array<NamePair, kSize>& table, std::string_view module) {
  for (const NamePair& pair : table) {
    if (pair.hugging_face == module) return pair.gguf;
  }
  return {};
}

/// "model.layers.3.mlp.up_proj" → "blk.3." and "mlp.up_proj"; an empty prefix if it is not in a layer.
std::string split_layer(std::string_view name, std::string_view* module) {
  for (std::string_view layers : {"model.layers.", "encoder.layer."}) {
    if (!name.starts_with(layers)) continue;
    const std::size_t dot = name.find('.', layers.size());
    if (dot == std::string_view::npos) break;
    *module = name.substr(dot + 1);
    return "blk." + std::string(name.substr(layers.size(), dot + 1 - layers.size()));
  }
  *module = name;
  return {};
}

}  // namespace

TensorNames::TensorNames(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  if (checkpoint.format() == CheckpointFormat::gguf) return;
  if (checkpoint.find("bert.embeddings.word_embeddings.weight") != nullptr) added_prefix_ = "bert.";
  if (checkpoint.find("model.embed_tokens.weight") == nullptr && checkpoint.find("embed_tokens.weight") != nullptr) {
    removed_prefix_ = "model.";
  }
}

std::string TensorNames::stored(std::string_view name) const {
  if (checkpoint_.format() == CheckpointFormat::hugging_face) {
    if (!removed_prefix_.empty() && name.starts_with(removed_prefix_)) name.remove_prefix(removed_prefix_.size());
    return added_prefix_ + std::string(name);
  }
  const std::size_t last_dot = name.rfind('.');  // before "weight" or "bias"
  std::string_view module;
  const std::string layer = split_layer(name.substr(0, last_dot), &module);
  const std::string_view gguf = layer.empty() ? counterpart(kGlobalNames, module) : counterpart(kLayerNames, module);
  if (gguf.empty()) {
    throw CheckpointError(log_safe(checkpoint_.path()), log_safe(name), "a tensor with a GGUF name", "none");
  }
  return layer + std::string(gguf) + std::string(name.substr(last_dot));
}

}  // namespace inferd
