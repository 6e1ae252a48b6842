// ModelConfig from the metadata and tensors of a GGUF file.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/architecture_keys.h"
#include "engine/weights/config_readers.h"
#include "engine/weights/stored_tensor.h"

namespace inferd {
namespace {

int as_int(std::int64_t value) { return static_cast<int>(value); }

/// Rows of the embedding are the truth; the key is often absent.
std::int64_t read_vocabulary(const Checkpoint& checkpoint, const ArchitectureKeys& keys) {
  const StoredTensor* embedding = checkpoint.find("token_embd.weight");
  if (embedding != nullptr && embedding->shape.size() == 2) {
    if (embedding->shape[0] > ConfigLimits::kVocabulary) {
      throw CheckpointError(keys.file(), "token_embd.weight", "at most 2^24 rows", std::to_string(embedding->shape[0]));
    }
    return embedding->shape[0];
  }
  if (const auto size = keys.integer("vocab_size", 1, ConfigLimits::kVocabulary)) return *size;
  const auto* tokens = keys.metadata().strings("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->empty())
    throw CheckpointError(keys.file(), keys.key("vocab_size"), "a value", "none");
  return static_cast<std::int64_t>(tokens->size());
}

void read_sizes(const Checkpoint& checkpoint, const ArchitectureKeys& keys, ModelConfig* config) {
  using Limits = ConfigLimits;
  config->vocab_size = read_vocabulary(checkpoint, keys);
  config->hidden_size = keys.require_integer("embedding_length", 1, Limits::kWidth);
  config->num_layers = as_int(keys.require_integer("block_count", 1, Limits::kLayers));
  config->max_position_embeddings = keys.require_integer("context_length", 1, Limits::kContext);
  auto width = keys.uniform("feed_forward_length", 1, Limits::kWidth);
  if (!width) width = keys.integer("expert_feed_forward_length", 1, Limits::kWidth);  // no layer without experts
  if (!width) throw CheckpointError(keys.file(), keys.key("feed_forward_length"), "a value", "none");
  config->intermediate_size = *width;
  if (config->model_type == "qwen") halve_intermediate_size(config, keys.file(), keys.key("feed_forward_length"));
  const auto heads = keys.uniform("attention.head_count", 1, Limits::kHeads);
  if (!heads) throw CheckpointError(keys.file(), keys.key("attention.head_count"), "a value", "none");
  config->num_heads = as_int(*heads);
  config->num_kv_heads = as_int(keys.uniform("attention.head_count_kv", 1, Limits::kHeads).value_or(*heads));
  const auto key_length = keys.integer("attention.key_length", 1, Limits::kHeadDim);
  const std::int64_t head_dim = key_length.value_or(config->hidden_size / config->num_heads);
  if (head_dim < 1 || head_dim > Limits::kHeadDim || (!key_length && config->hidden_size % config->num_heads != 0)) {
    throw CheckpointError(keys.file(), keys.key("embedding_length"),
                          "a multiple of " + std::to_string(config->num_heads) + " heads, as key_length is absent",
                          std::to_string(config->hidden_size));
  }
  const std::int64_t value_length = keys.integer("attention.value_length", 1, Limits::kHeadDim).value_or(head_dim);
  if (value_length != head_dim) {
    throw CheckpointError(keys.file(), keys.key("attention.value_length"), "key_length, " + std::to_string(head_dim),
                          std::to_string(value_length));
  }
  config->head_dim = as_int(head_dim);
}

double read_eps(const ArchitectureKeys& keys) {
  auto eps = keys.number("attention.layer_norm_rms_epsilon", 0.0, 1.0);
  if (!eps) eps = keys.number("attention.layer_norm_epsilon", 0.0, 1.0);
  if (!eps) throw CheckpointError(keys.file(), keys.key("attention.layer_norm_rms_epsilon"), "a value", "none");
  return *eps;
}

/// The values of a vector of rope factors; empty if the file has no such tensor.
std::vector<float> read_factors(const Checkpoint& checkpoint, const char* name, int rotary_dim) {
  const StoredTensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) return {};
  const std::vector<std::int64_t> expected{rotary_dim / 2};
  if (tensor->shape != expected) {
    throw CheckpointError(tensor->file, name, "shape " + shape_text(expected), shape_text(tensor->shape));
  }
  std::vector<float> values(static_cast<std::size_t>(tensor->elements()));
  dequantize(*tensor, values);
  return values;
}

RopeConfig read_rope(const Checkpoint& checkpoint, const ArchitectureKeys& keys, const ModelConfig& config) {
  RopeConfig rope;
  if (!family_has_rope(config.model_type)) return rope;
  rope.theta = keys.number("rope.freq_base", 1.0 + 1e-6, 1e15).value_or(10000.0);
  rope.rotary_dim = as_int(keys.integer("rope.dimension_count", 2, config.head_dim).value_or(config.head_dim));
  const std::string type = keys.metadata().string(keys.key("rope.scaling.type")).value_or("none");
  const double old_linear = keys.number("rope.scale_linear", 1e-3, 1e6).value_or(1.0);
  const auto factor = keys.number("rope.scaling.factor", 0.0, 1e6);
  rope.original_max_position_embeddings =
      keys.integer("rope.scaling.original_context_length", 0, ConfigLimits::kContext).value_or(0);
  rope.freq_divisors = read_factors(checkpoint, "rope_freqs.weight", rope.rotary_dim);
  if (type == "linear" || (type == "none" && old_linear != 1.0)) {
    rope.scaling = "linear";
    rope.factor = factor.value_or(old_linear);
  } else if (type == "yarn") {
    rope.scaling = "yarn";
    rope.factor = factor.value_or(1.0);
    rope.beta_fast = keys.number("rope.scaling.yarn_beta_fast", 1e-6, 1e6).value_or(32.0);
    rope.beta_slow = keys.number("rope.scaling.yarn_beta_slow", 1e-6, 1e6).value_or(1.0);
    if (const auto attention = keys.number("rope.scaling.attn_factor", 1e-6, 1e6)) {
      rope.attention_factor = *attention * (1.0 + 0.1 * std::log(std::max(rope.factor, 1.0)));
    }
  } else if (type == "longrope") {
    rope.scaling = "longrope";
    rope.factor = 0.0;
    rope.attention_factor = keys.number("rope.scaling.attn_factor", 1e-6, 1e6);
    rope.short_factors = read_factors(checkpoint, "rope_factors_short.weight", rope.rotary_dim);
    rope.long_factors = read_factors(checkpoint, "rope_factors_long.weight", rope.rotary_dim);
    if (rope.short_factors.empty() || rope.long_factors.empty()) {
      throw CheckpointError(keys.file(), "rope_factors_short.weight", "this tensor and rope_factors_long.weight",
                            "none");
    }
  } else if (type != "none") {
    throw CheckpointError(keys.file(), keys.key("rope.scaling.type"), "none, linear, yarn or longrope", log_safe(type));
  } else {
    rope.original_max_position_embeddings = 0;
  }
  if (rope.scaling != "longrope" && rope.factor <= 0.0) {
    throw CheckpointError(keys.file(), keys.key("rope.scaling.factor"), "a number above 0",
                          std::to_string(rope.factor));
  }
  return rope;
}

void read_special_tokens(const GgufMetadata& metadata, const std::string& file, ModelConfig* config) {
  const auto id_of = [&](const char* key) -> std::int32_t {
    // Ids beyond the vocabulary stand for "none" in files of some converters.
    const std::int64_t id = metadata.integer(key).value_or(-1);
    if (id < -1 || id > 0xffffffffLL) throw CheckpointError(file, key, "a token id", std::to_string(id));
    return id < config->vocab_size ? static_cast<std::int32_t>(id) : -1;
  };
  std::set<std::int32_t> eos;
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const std::int32_t id = id_of(key); id >= 0) eos.insert(id);
  }
  config->eos_token_ids.assign(eos.begin(), eos.end());
  config->bos_token_id = id_of("tokenizer.ggml.bos_token_id");
  config->pad_token_id = id_of("tokenizer.ggml.padding_token_id");
}

}  // namespace

ModelConfig read_gguf_config(const Checkpoint& checkpoint) {
  const GgufMetadata& metadata = *checkpoint.metadata();
  const std::string file = log_safe(checkpoint.path());
  const auto architecture = metadata.string("general.architecture");
  if (!architecture || architecture->empty()) {
    throw CheckpointError(file, "general.architecture", "a name", architecture ? "\"\"" : "none");
  }
  ModelConfig config;
  config.model_type = *architecture;
  config.name = metadata.string("general.name").value_or("");
  if (config.name.empty()) config.name = checkpoint_stem(checkpoint.path());
  const ArchitectureKeys keys(metadata, *architecture, file);
  read_sizes(checkpoint, keys, &config);
  config.norm_eps = read_eps(keys);
  config.tie_word_embeddings = checkpoint.find("output.weight") == nullptr;
  config.attention_bias =
      checkpoint.find("blk.0.attn_q.bias") != nullptr || checkpoint.find("blk.0.attn_qkv.bias") != nullptr;
  config.sliding_window = as_int(keys.integer("attention.sliding_window", 0, ConfigLimits::kContext).value_or(0));
  read_special_tokens(metadata, file, &config);
  config.rope = read_rope(checkpoint, keys, config);
  finish_config(&config, file);
  return config;
}

}  // namespace inferd
