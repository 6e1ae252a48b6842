// The tables of tensor names: Hugging Face modules and their counterparts in other dialects.
#include "engine/models/tensor_names.h"

#include <array>
#include <span>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {

/// One module under two names.
struct NamePair {
  std::string_view hugging_face;
  std::string_view stored;
};

/// Files whose modules have names of their own.
struct TensorDialect {
  std::string_view mark;              // a tensor that tells folders of this dialect
  std::string_view layers;            // what stands before a layer's number
  std::span<const NamePair> globals;  // modules outside the layers
  std::span<const NamePair> layer;    // modules of one layer, after "model.layers.N.", "encoder.layer.N." …
};

namespace {

constexpr std::array<NamePair, 11> kGgufGlobals = {{
    {"model.embed_tokens", "token_embd"},
    {"model.embed_norm", "token_embd_norm"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"embeddings.word_embeddings", "token_embd"},
    {"embeddings.position_embeddings", "position_embd"},
    {"embeddings.token_type_embeddings", "token_types"},
    {"embeddings.LayerNorm", "token_embd_norm"},
    {"emb_ln", "token_embd_norm"},
    {"classifier.dense", "cls"},
    {"classifier.out_proj", "cls.output"},
}};

constexpr std::array<NamePair, 38> kGgufLayer = {{
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"post_self_attn_layernorm", "post_attention_norm"},
    {"post_mlp_layernorm", "post_ffw_norm"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.experts.gate_proj", "ffn_gate_exps"},  // of all experts, [num_experts, rows, columns]
    {"mlp.experts.up_proj", "ffn_up_exps"},
    {"mlp.experts.down_proj", "ffn_down_exps"},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp"},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp"},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp"},
    {"attention.self.query", "attn_q"},
    {"attention.self.key", "attn_k"},
    {"attention.self.value", "attn_v"},
    {"attention.output.dense", "attn_output"},
    {"attention.output.LayerNorm", "attn_output_norm"},
    {"intermediate.dense", "ffn_up"},
    {"output.dense", "ffn_down"},
    {"output.LayerNorm", "layer_output_norm"},
    {"attn.Wqkv", "attn_qkv"},  // Nomic's
    {"attn.out_proj", "attn_output"},
    {"norm1", "attn_output_norm"},
    {"mlp.fc11", "ffn_up"},
    {"mlp.fc12", "ffn_gate"},
    {"mlp.fc2", "ffn_down"},
    {"norm2", "layer_output_norm"},
}};

constexpr TensorDialect kGguf{"", "blk.", kGgufGlobals, kGgufLayer};

// ChatGLM2, ChatGLM3 and GLM-4 with the code they were published with.
constexpr std::array<NamePair, 3> kChatGlmGlobals = {{
    {"model.embed_tokens", "transformer.embedding.word_embeddings"},
    {"model.norm", "transformer.encoder.final_layernorm"},
    {"lm_head", "transformer.output_layer"},
}};
constexpr std::array<NamePair, 6> kChatGlmLayer = {{
    {"input_layernorm", "input_layernorm"},
    {"self_attn.qkv_proj", "self_attention.query_key_value"},
    {"self_attn.o_proj", "self_attention.dense"},
    {"post_attention_layernorm", "post_attention_layernorm"},
    {"mlp.gate_up_proj", "mlp.dense_h_to_4h"},
    {"mlp.down_proj", "mlp.dense_4h_to_h"},
}};

// Qwen, first generation.
constexpr std::array<NamePair, 3> kQwenGlobals = {{
    {"model.embed_tokens", "transformer.wte"},
    {"model.norm", "transformer.ln_f"},
    {"lm_head", "lm_head"},
}};
constexpr std::array<NamePair, 7> kQwenLayer = {{
    {"input_layernorm", "ln_1"},
    {"self_attn.qkv_proj", "attn.c_attn"},
    {"self_attn.o_proj", "attn.c_proj"},
    {"post_attention_layernorm", "ln_2"},
    {"mlp.gate_proj", "mlp.w2"},  // the one under the SiLU
    {"mlp.up_proj", "mlp.w1"},
    {"mlp.down_proj", "mlp.c_proj"},
}};

// BLOOM; its first files leave "transformer." out.
constexpr std::array<NamePair, 4> kBloomGlobals = {{
    {"model.embed_tokens", "transformer.word_embeddings"},
    {"model.embed_norm", "transformer.word_embeddings_layernorm"},
    {"model.norm", "transformer.ln_f"},
    {"lm_head", "lm_head"},
}};
constexpr std::array<NamePair, 4> kBareBloomGlobals = {{
    {"model.embed_tokens", "word_embeddings"},
    {"model.embed_norm", "word_embeddings_layernorm"},
    {"model.norm", "ln_f"},
    {"lm_head", "lm_head"},
}};
constexpr std::array<NamePair, 6> kBloomLayer = {{
    {"input_layernorm", "input_layernorm"},
    {"self_attn.qkv_proj", "self_attention.query_key_value"},
    {"self_attn.o_proj", "self_attention.dense"},
    {"post_attention_layernorm", "post_attention_layernorm"},
    {"mlp.up_proj", "mlp.dense_h_to_4h"},
    {"mlp.down_proj", "mlp.dense_4h_to_h"},
}};

// ChatGLM-6B.
constexpr std::array<NamePair, 3> kChatGlm1Globals = {{
    {"model.embed_tokens", "transformer.word_embeddings"},
    {"model.norm", "transformer.final_layernorm"},
    {"lm_head", "lm_head"},
}};
constexpr std::array<NamePair, 6> kChatGlm1Layer = {{
    {"input_layernorm", "input_layernorm"},
    {"self_attn.qkv_proj", "attention.query_key_value"},
    {"self_attn.o_proj", "attention.dense"},
    {"post_attention_layernorm", "post_attention_layernorm"},
    {"mlp.up_proj", "mlp.dense_h_to_4h"},
    {"mlp.down_proj", "mlp.dense_4h_to_h"},
}};

constexpr std::array<TensorDialect, 5> kFolderDialects = {{
    {"transformer.embedding.word_embeddings.weight", "transformer.encoder.layers.", kChatGlmGlobals, kChatGlmLayer},
    {"transformer.h.0.attn.c_attn.weight", "transformer.h.", kQwenGlobals, kQwenLayer},
    {"transformer.word_embeddings_layernorm.weight", "transformer.h.", kBloomGlobals, kBloomLayer},
    {"word_embeddings_layernorm.weight", "h.", kBareBloomGlobals, kBloomLayer},
    {"transformer.layers.0.attention.query_key_value.weight", "transformer.layers.", kChatGlm1Globals, kChatGlm1Layer},
}};

std::string_view counterpart(std::span<const NamePair> table, std::string_view module) {
  for (const NamePair& pair : table) {
    if (pair.hugging_face == module) return pair.stored;
  }
  return {};
}

/// "model.layers.3.mlp.up_proj" → "3." and "mlp.up_proj"; an empty number if it is not in a layer.
std::string_view split_layer(std::string_view name, std::string_view* module) {
  for (std::string_view layers : {"model.layers.", "encoder.layer.", "encoder.layers."}) {
    if (!name.starts_with(layers)) continue;
    const std::size_t dot = name.find('.', layers.size());
    if (dot == std::string_view::npos) break;
    *module = name.substr(dot + 1);
    return name.substr(layers.size(), dot + 1 - layers.size());
  }
  *module = name;
  return {};
}

}  // namespace

TensorNames::TensorNames(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  if (checkpoint.format() == CheckpointFormat::gguf) {
    dialect_ = &kGguf;
    return;
  }
  for (const TensorDialect& dialect : kFolderDialects) {
    if (checkpoint.find(dialect.mark) != nullptr) dialect_ = &dialect;
  }
  for (const std::string_view prefix : {"bert.", "roberta.", "new.", "gte.", "nomic_bert."}) {
    if (checkpoint.find(std::string(prefix) + "embeddings.word_embeddings.weight") != nullptr) added_prefix_ = prefix;
  }
  if (checkpoint.find("model.embed_tokens.weight") == nullptr && checkpoint.find("embed_tokens.weight") != nullptr) {
    removed_prefix_ = "model.";
  }
}

std::string canonical_module(std::string_view module) {
  for (const TensorDialect& dialect : kFolderDialects) {
    if (!module.starts_with(dialect.layers)) continue;
    const std::string_view rest = module.substr(dialect.layers.size());
    const std::size_t dot = rest.find('.');
    if (dot == std::string_view::npos) continue;
    for (const NamePair& pair : dialect.layer) {
      if (pair.stored != rest.substr(dot + 1)) continue;
      return std::string("model.layers.").append(rest.substr(0, dot + 1)).append(pair.hugging_face);
    }
  }
  return std::string(module);
}

std::string TensorNames::stored(std::string_view name) const {
  if (dialect_ == nullptr) {
    if (!removed_prefix_.empty() && name.starts_with(removed_prefix_)) name.remove_prefix(removed_prefix_.size());
    const bool head = name.starts_with("classifier.") || name.starts_with("score.");  // beside the prefixed network
    return (head ? "" : added_prefix_) + std::string(name);
  }
  const std::size_t last_dot = name.rfind('.');  // before "weight" or "bias"
  std::string_view module;
  const std::string_view number = split_layer(name.substr(0, last_dot), &module);
  const std::string_view found = counterpart(number.empty() ? dialect_->globals : dialect_->layer, module);
  if (found.empty()) {
    throw CheckpointError(log_safe(checkpoint_.path()), log_safe(name), "a tensor that files of this kind can have",
                          "none");
  }
  std::string out;
  if (!number.empty()) out.append(dialect_->layers).append(number);
  return out.append(found).append(name.substr(last_dot));
}

}  // namespace inferd
