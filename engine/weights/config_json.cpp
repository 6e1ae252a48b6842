// ModelConfig from config.json and generation_config.json of a Hugging Face folder.
#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/config_readers.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxTokenId = ConfigLimits::kVocabulary - 1;

int as_int(std::int64_t value) { return static_cast<int>(value); }

/// ChatGLM-6B, whose network is another under the name of its successors.
bool is_chatglm1(const JsonFields& fields) {
  return !fields.boolean({"multi_query_attention"}).value_or(false) && fields.has("inner_hidden_size");
}

/// What the code published with these files can also do and no published model does.
void check_chatglm1(const JsonFields& fields, const std::string& file) {
  if (!fields.boolean({"position_encoding_2d"}).value_or(true)) {
    throw CheckpointError(file, "position_encoding_2d", "true", "false");
  }
  if (fields.integer({"quantization_bit"}, 0, 64).value_or(0) != 0) {
    throw CheckpointError(file, "quantization_bit", "0 (weights that were not quantised by ChatGLM's own code)",
                          std::to_string(*fields.integer({"quantization_bit"}, 0, 64)));
  }
  if (fields.integer({"pre_seq_len"}, 0, ConfigLimits::kContext).value_or(0) != 0) {
    throw CheckpointError(file, "pre_seq_len", "none (no P-tuning prefix)", "one");
  }
}

/// Likewise.
void check_chatglm(const JsonFields& fields, const std::string& file) {
  if (!fields.boolean({"multi_query_attention"}).value_or(false)) {
    throw CheckpointError(file, "multi_query_attention", "true (ChatGLM2 and later)", "false or none");
  }
  fields.require_integer({"multi_query_group_num"}, 1, ConfigLimits::kHeads);
  struct Switch {
    const char* name;
    bool expected;
  };
  for (const Switch& each : {Switch{"rmsnorm", true}, Switch{"post_layer_norm", true},
                             Switch{"apply_residual_connection_post_layernorm", false}}) {
    if (fields.boolean({each.name}).value_or(each.expected) != each.expected) {
      throw CheckpointError(file, each.name, each.expected ? "true" : "false", each.expected ? "false" : "true");
    }
  }
}

/// Sizes, with the names that older families gave them.
void read_sizes(const JsonFields& fields, const std::string& file, ModelConfig* config) {
  using Limits = ConfigLimits;
  config->vocab_size = fields.require_integer({"vocab_size", "padded_vocab_size"}, 1, Limits::kVocabulary);
  if (const auto padded = fields.integer({"padded_vocab_size"}, 1, Limits::kVocabulary)) {
    config->vocab_size = std::max(config->vocab_size, *padded);
  }
  config->hidden_size = fields.require_integer({"hidden_size", "n_embd", "n_embed"}, 1, Limits::kWidth);
  config->num_layers =
      as_int(fields.require_integer({"num_hidden_layers", "num_layers", "n_layer"}, 1, Limits::kLayers));
  config->num_heads = as_int(fields.require_integer({"num_attention_heads", "n_head"}, 1, Limits::kHeads));
  const auto width =
      fields.integer({"intermediate_size", "ffn_hidden_size", "inner_hidden_size", "n_inner"}, 1, Limits::kWidth);
  if (!width && config->model_type != "bloom") fields.require_integer({"intermediate_size"}, 1, Limits::kWidth);
  config->intermediate_size = width.value_or(4 * config->hidden_size);
  if (config->model_type == "qwen") halve_intermediate_size(config, file, "intermediate_size");
  auto kv_heads = fields.integer({"num_key_value_heads"}, 1, Limits::kHeads);
  if (!kv_heads && fields.boolean({"multi_query_attention"}).value_or(false)) {
    kv_heads = fields.integer({"multi_query_group_num"}, 1, Limits::kHeads);
  }
  config->num_kv_heads = as_int(kv_heads.value_or(config->num_heads));
  const auto head_dim = fields.integer({"head_dim", "kv_channels"}, 1, Limits::kHeadDim);
  if (!head_dim && config->hidden_size % config->num_heads != 0) {
    throw CheckpointError(file, "hidden_size",
                          "a multiple of " + std::to_string(config->num_heads) + " heads, as head_dim is absent",
                          std::to_string(config->hidden_size));
  }
  const std::int64_t derived = head_dim.value_or(config->hidden_size / config->num_heads);
  if (derived > Limits::kHeadDim) {
    throw CheckpointError(file, "head_dim", "at most " + std::to_string(Limits::kHeadDim), std::to_string(derived));
  }
  config->head_dim = as_int(derived);
}

void read_context(const JsonFields& fields, ModelConfig* config) {
  // ChatGLM names its limit seq_length; elsewhere that is only the length of training samples.
  if (config->model_type.starts_with("chatglm")) {
    config->max_position_embeddings =
        fields.require_integer({"seq_length", "max_sequence_length"}, 1, ConfigLimits::kContext);
  } else if (config->model_type == "bloom") {
    // ALiBi has no table to run out of; the samples it was trained on had this length.
    config->max_position_embeddings = fields.integer({"seq_length"}, 1, ConfigLimits::kContext).value_or(2048);
  } else {
    config->max_position_embeddings =
        fields.require_integer({"max_position_embeddings", "n_positions", "seq_length"}, 1, ConfigLimits::kContext);
    const auto trained = fields.integer({"seq_length"}, 1, ConfigLimits::kContext);
    // The first Qwen goes beyond that where its base follows the prompt's length.
    if (config->model_type == "qwen" && trained && !fields.boolean({"use_dynamic_ntk"}).value_or(false)) {
      config->max_position_embeddings = std::min(config->max_position_embeddings, *trained);
    }
    // Nomic's files allow more positions than were trained, under a scaling that follows the length of each input.
    if (const auto most = fields.integer({"max_trained_positions"}, 1, ConfigLimits::kContext)) {
      config->max_position_embeddings = std::min(config->max_position_embeddings, *most);
    }
  }
}

bool is_encoder_type(std::string_view model_type) {
  static constexpr std::array<std::string_view, 6> kTypes{"bert", "roberta", "xlm-roberta", "new", "gte", "nomic_bert"};
  return std::find(kTypes.begin(), kTypes.end(), model_type) != kTypes.end();
}

double default_eps(std::string_view model_type) {
  if (is_encoder_type(model_type)) return 1e-12;
  return model_type == "bloom" || model_type.starts_with("chatglm") ? 1e-5 : 1e-6;
}

/// Sliding windows are on by a flag (Qwen) or by their mere size (Mistral). `layer_types`, where given, must be full
/// layers followed by sliding ones: the only arrangement these families use.
void read_sliding_window(const JsonFields& fields, const Json& root, const std::string& file, ModelConfig* config) {
  const auto window = fields.integer({"sliding_window"}, 0, ConfigLimits::kContext);
  const bool flagged = config->model_type.starts_with("qwen");
  const bool on = fields.boolean({"use_sliding_window"}).value_or(!flagged);
  if (!on || window.value_or(0) == 0) return;
  config->sliding_window = as_int(*window);
  config->max_window_layers =
      as_int(fields.integer({"max_window_layers"}, 0, ConfigLimits::kLayers).value_or(flagged ? 28 : 0));
  const auto types = root.find("layer_types");
  if (types == root.end() || !types->is_array()) return;
  if (types->size() != static_cast<std::size_t>(config->num_layers)) {
    throw CheckpointError(file, "layer_types", std::to_string(config->num_layers) + " entries, one a layer",
                          std::to_string(types->size()));
  }
  const auto sliding = [](const Json& type) { return type == "sliding_attention"; };
  const auto first = std::find_if(types->begin(), types->end(), sliding);
  if (!std::all_of(first, types->end(), sliding)) {
    throw CheckpointError(file, "layer_types", "full layers, then sliding ones", "another arrangement");
  }
  config->max_window_layers = as_int(first - types->begin());
}

void read_special_tokens(const Checkpoint& checkpoint, const JsonFields& config_fields, ModelConfig* config) {
  const auto generation = checkpoint.json("generation_config.json");
  const Json empty = Json::object();
  const std::string file = log_safe((std::filesystem::path(checkpoint.path()) / "generation_config.json").string());
  const JsonFields generation_fields(generation ? *generation : empty, file);
  std::set<std::int64_t> eos;
  for (const JsonFields* fields : {&config_fields, &generation_fields}) {
    // -1 stands for "none" in some files.
    for (std::int64_t id : fields->integers({"eos_token_id"}, -1, kMaxTokenId)) {
      if (id >= 0) eos.insert(id);
    }
    if (config->bos_token_id < 0) {
      config->bos_token_id = as_int(fields->integer({"bos_token_id"}, -1, kMaxTokenId).value_or(-1));
    }
    if (config->pad_token_id < 0) {
      config->pad_token_id = as_int(fields->integer({"pad_token_id"}, -1, kMaxTokenId).value_or(-1));
    }
  }
  config->eos_token_ids.assign(eos.begin(), eos.end());
}

}  // namespace

ModelConfig read_json_config(const Checkpoint& checkpoint) {
  const std::string file = log_safe((std::filesystem::path(checkpoint.path()) / "config.json").string());
  const auto root = checkpoint.json("config.json");
  if (!root) throw CheckpointError(log_safe(checkpoint.path()), "config.json", "this file beside the weights", "none");
  const JsonFields fields(*root, file);
  ModelConfig config;
  const auto model_type = fields.string({"model_type"});
  if (!model_type) throw CheckpointError(file, "model_type", "a string", "none");
  config.model_type = *model_type;
  config.name = fields.string({"_name_or_path"}).value_or("");
  if (config.name.empty()) config.name = checkpoint_stem(checkpoint.path());
  if (config.model_type == "chatglm" && is_chatglm1(fields)) config.model_type = "chatglm1";
  if (config.model_type == "chatglm1") check_chatglm1(fields, file);
  if (config.model_type == "chatglm") check_chatglm(fields, file);
  read_sizes(fields, file, &config);
  read_context(fields, &config);
  config.norm_eps = fields
                        .number({"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon",
                                 "norm_epsilon", "norm_eps"},
                                0.0, 1.0)
                        .value_or(default_eps(config.model_type));
  config.tie_word_embeddings = fields.boolean({"tie_word_embeddings"}).value_or(config.model_type == "bloom");
  // A decoder's head that is not in the files can only be the embedding.
  if (checkpoint.find("lm_head.weight") == nullptr && checkpoint.find("model.embed_tokens.weight") != nullptr) {
    config.tie_word_embeddings = true;
  }
  config.attention_bias = fields.boolean({"attention_bias", "add_qkv_bias"})
                              .value_or(config.model_type == "qwen2" || config.model_type == "bert" ||
                                        config.model_type == "qwen" || config.model_type == "bloom");
  read_sliding_window(fields, *root, file, &config);
  read_special_tokens(checkpoint, fields, &config);
  config.rope = read_json_rope(*root, file, config);
  finish_config(&config, file);
  return config;
}

}  // namespace inferd
