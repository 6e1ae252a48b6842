// Reading pooling settings.
#include "engine/models/pooling_config.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "base/errors.h"
#include "base/json.h"
#include "base/log.h"

namespace inferd {
namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

[[noreturn]] void refuse(const Checkpoint& checkpoint, const std::string& field, const std::string& expected,
                         std::string_view found) {
  throw CheckpointError(log_safe(checkpoint.path()), field, expected, log_safe(found));
}

PoolingKind kind_by_name(const Checkpoint& checkpoint, const std::string& file, std::string_view name) {
  if (name == "mean") return PoolingKind::mean;
  if (name == "cls") return PoolingKind::cls;
  if (name == "max") return PoolingKind::max;
  if (name == "lasttoken") return PoolingKind::last;
  refuse(checkpoint, file + ": pooling_mode", "mean, cls, max or lasttoken", name);
}

/// One flag a kind (pooling_mode_cls_token: true), or their names (pooling_mode: "cls").
PoolingKind read_pooling_module(const Checkpoint& checkpoint, const std::string& file) {
  const auto json = checkpoint.json(file);
  if (!json || !json->is_object()) refuse(checkpoint, file, "the pooling module's settings", "none");
  static constexpr std::array<std::pair<const char*, std::string_view>, 6> kFlags = {{
      {"pooling_mode_cls_token", "cls"},
      {"pooling_mode_mean_tokens", "mean"},
      {"pooling_mode_max_tokens", "max"},
      {"pooling_mode_lasttoken", "lasttoken"},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"},
      {"pooling_mode_weightedmean_tokens", "weightedmean"},
  }};
  std::string kinds = text_of(*json, "pooling_mode");
  for (const auto& [flag, name] : kFlags) {
    const auto found = json->find(flag);
    if (found == json->end() || !found->is_boolean() || !found->get<bool>()) continue;
    kinds += (kinds.empty() ? "" : "+") + std::string(name);
  }
  return kind_by_name(checkpoint, file, kinds);
}

void read_modules(const Checkpoint& checkpoint, const Json& modules, PoolingConfig* pooling) {
  if (!modules.is_array()) refuse(checkpoint, "modules.json", "a list", modules.type_name());
  pooling->normalize = false;
  bool pooled = false;
  for (const Json& module : modules) {
    const std::string type = text_of(module, "type");
    const std::string path = text_of(module, "path");
    const std::string name = type.substr(type.rfind('.') + 1);  // npos + 1 is 0
    if (name == "Pooling") {
      pooling->kind = read_pooling_module(checkpoint, path + "/config.json");
      pooled = true;
    } else if (name == "Normalize") {
      pooling->normalize = true;
    } else if (name != "Transformer") {
      refuse(checkpoint, "modules.json: type", "Transformer, Pooling or Normalize", type);
    }
  }
  if (!pooled) refuse(checkpoint, "modules.json", "a Pooling module", "none");
}

void read_max_length(const Checkpoint& checkpoint, PoolingConfig* pooling) {
  const auto json = checkpoint.json("sentence_bert_config.json");
  if (!json || !json->is_object()) return;
  const auto found = json->find("max_seq_length");
  if (found == json->end() || found->is_null()) return;
  if (!found->is_number_integer() || found->get<std::int64_t>() < 1) {
    refuse(checkpoint, "sentence_bert_config.json: max_seq_length", "a positive integer", found->dump());
  }
  pooling->max_sequence_tokens = std::min(pooling->max_sequence_tokens, found->get<std::int64_t>());
}

void read_gguf_pooling(const Checkpoint& checkpoint, const std::string& architecture, PoolingConfig* pooling) {
  const std::string key = architecture + ".pooling_type";
  switch (checkpoint.metadata()->integer(key).value_or(1)) {
    case 0:  // none said
    case 1:
      pooling->kind = PoolingKind::mean;
      return;
    case 2:
      pooling->kind = PoolingKind::cls;
      return;
    case 3:
      pooling->kind = PoolingKind::last;
      return;
    case 4:  // a reranker, whose head reads the first token
      pooling->kind = PoolingKind::cls;
      return;
    default:
      break;
  }
  refuse(checkpoint, key, "1 (mean), 2 (cls), 3 (last) or 4 (rank)",
         std::to_string(*checkpoint.metadata()->integer(key)));
}

}  // namespace

bool is_sequence_classifier(const Checkpoint& checkpoint) {
  if (checkpoint.metadata() != nullptr) {
    constexpr std::int64_t kRank = 4;
    const std::string architecture = checkpoint.metadata()->string("general.architecture").value_or("");
    return checkpoint.metadata()->integer(architecture + ".pooling_type").value_or(0) == kRank ||
           checkpoint.find("cls.output.weight") != nullptr;
  }
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) return false;
  const auto names = json->find("architectures");
  if (names == json->end() || !names->is_array() || names->empty() || !names->front().is_string()) return false;
  return names->front().get<std::string>().ends_with("ForSequenceClassification");
}

PoolingConfig read_pooling_config(const Checkpoint& checkpoint, const ModelConfig& config) {
  PoolingConfig pooling;
  pooling.max_sequence_tokens = config.max_position_embeddings;
  if (checkpoint.metadata() != nullptr) {
    read_gguf_pooling(checkpoint, config.model_type, &pooling);
    return pooling;
  }
  if (const auto modules = checkpoint.json("modules.json")) read_modules(checkpoint, *modules, &pooling);
  read_max_length(checkpoint, &pooling);
  return pooling;
}

}  // namespace inferd
