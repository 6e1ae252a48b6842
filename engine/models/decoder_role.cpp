// What a decoder's files say it is for.
#include <algorithm>
#include <string>
#include <vector>

#include "base/errors.h"
#include "base/log.h"
#include "engine/models/decoder_encoder.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::int64_t kLongestInput = 8192;  // tokens: one step holds a whole input

/// Whether the model's file or folder, or the name in a GGUF file, is called a reranker.
bool named_reranker(const Checkpoint& checkpoint) {
  std::string path = checkpoint.path();
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  std::string name = path.substr(path.rfind('/') + 1);
  if (checkpoint.metadata() != nullptr) name += " " + checkpoint.metadata()->string("general.name").value_or("");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return name.find("reranker") != std::string::npos;
}

/// The settings of the module whose type ends in `kind`; nothing without such a module.
std::optional<std::string> module_path(const Checkpoint& checkpoint, std::string_view kind) {
  const auto modules = checkpoint.json("modules.json");
  if (!modules || !modules->is_array()) return std::nullopt;
  for (const Json& module : *modules) {
    if (!module.is_object()) continue;
    const JsonFields fields(module, log_safe(checkpoint.path()) + "/modules.json");
    if (fields.string({"type"}).value_or("").ends_with(kind)) return fields.string({"path"}).value_or("");
  }
  return std::nullopt;
}

void set_embedder(const Checkpoint& checkpoint, const ModelConfig& config, DecoderRole* role) {
  role->kind = DecoderRole::Kind::embedder;
  role->pooling = read_pooling_config(checkpoint, config);
}

/// The rows of cls.output.weight that stand for yes and no.
void read_labels(const Checkpoint& checkpoint, const ModelConfig& config, DecoderRole* role) {
  if (checkpoint.find("cls.output.weight") == nullptr) return;
  const std::string key = config.model_type + ".classifier.output_labels";
  const std::vector<std::string>* labels = checkpoint.metadata()->strings(key);
  for (std::size_t i = 0; labels != nullptr && labels->size() == 2 && i < 2; ++i) {
    if ((*labels)[i] == "yes") role->yes = static_cast<std::int32_t>(i);
    if ((*labels)[i] == "no") role->no = static_cast<std::int32_t>(i);
  }
  if (role->yes < 0 || role->no < 0) {
    throw CheckpointError(log_safe(checkpoint.path()), log_safe(key), "yes and no, the rows of cls.output.weight",
                          labels == nullptr ? "none" : std::to_string(labels->size()) + " labels without these");
  }
  role->has_labels = true;
}

void read_gguf_role(const Checkpoint& checkpoint, const ModelConfig& config, DecoderRole* role) {
  constexpr std::int64_t kNone = 0, kRank = 4;
  const std::int64_t pooling = checkpoint.metadata()->integer(config.model_type + ".pooling_type").value_or(kNone);
  if (pooling == kRank || (pooling == kNone && config.family == "qwen3" && named_reranker(checkpoint))) {
    role->kind = DecoderRole::Kind::reranker;
    read_labels(checkpoint, config, role);
  } else if (pooling != kNone) {
    set_embedder(checkpoint, config, role);
  }
}

void read_folder_role(const Checkpoint& checkpoint, const ModelConfig& config, DecoderRole* role) {
  if (is_sequence_classifier(checkpoint)) {
    role->kind = DecoderRole::Kind::reranker;
    role->has_head = true;
  } else if (const auto path = module_path(checkpoint, ".LogitScore")) {
    role->kind = DecoderRole::Kind::reranker;
    const auto json = checkpoint.json(*path + "/config.json");
    if (!json || !json->is_object()) return;
    const JsonFields fields(*json, log_safe(checkpoint.path() + "/" + *path + "/config.json"));
    role->yes = static_cast<std::int32_t>(fields.require_integer({"true_token_id"}, 0, config.vocab_size - 1));
    role->no = static_cast<std::int32_t>(fields.require_integer({"false_token_id"}, 0, config.vocab_size - 1));
  } else if (module_path(checkpoint, ".Pooling")) {
    set_embedder(checkpoint, config, role);
  } else if (config.family == "qwen3" && named_reranker(checkpoint)) {
    role->kind = DecoderRole::Kind::reranker;
  }
}

/// Some embedders were trained with attention both ways under a decoder's name.
void check_causal(const Checkpoint& checkpoint) {
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) return;
  const std::string file = log_safe(checkpoint.path()) + "/config.json";
  if (!JsonFields(*json, file).boolean({"is_causal"}).value_or(true)) {
    throw CheckpointError(file, "is_causal", "true: decoders that attend both ways are not supported", "false");
  }
}

}  // namespace

DecoderRole read_decoder_role(const Checkpoint& checkpoint, const ModelConfig& config) {
  DecoderRole role;
  if (checkpoint.metadata() != nullptr) {
    read_gguf_role(checkpoint, config, &role);
  } else {
    read_folder_role(checkpoint, config, &role);
  }
  if (role.kind == DecoderRole::Kind::generator) return role;
  const bool known =
      config.family == "qwen3" || config.family == "qwen2" || config.family == "llama" || config.family == "mistral";
  if (!known || (role.kind == DecoderRole::Kind::reranker && config.family != "qwen3")) {
    throw CheckpointError(log_safe(checkpoint.path()), "model_type",
                          role.kind == DecoderRole::Kind::embedder
                              ? "qwen3, qwen2, llama or mistral, where a decoder gives embeddings"
                              : "qwen3, where a decoder reranks",
                          log_safe(config.model_type));
  }
  check_causal(checkpoint);
  return role;
}

ModelOptions encoder_options(const ModelConfig& config, const DecoderRole& role, const ModelOptions& options) {
  constexpr std::int64_t kBlock = 16;
  std::int64_t longest = std::min(config.max_position_embeddings, kLongestInput);
  if (role.kind == DecoderRole::Kind::embedder) longest = std::min(longest, role.pooling.max_sequence_tokens);
  ModelOptions out = options;
  out.features = true;
  out.max_adapters = 0;
  out.host_layers = 0;
  out.max_batch_tokens = (std::max(options.max_batch_tokens, longest) + kBlock - 1) / kBlock * kBlock;
  out.max_logit_rows = out.max_batch_tokens;
  return out;
}

}  // namespace inferd
