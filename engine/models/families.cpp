// The table of model families, and loading through it.
#include "engine/models/families.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/models/decoder_encoder.h"
#include "engine/models/rank_config.h"

namespace inferd {
namespace {

constexpr std::array<Family, 18> kFamilies = {{
    // name, model_type, gguf_arch, pairing in safetensors, pairing in GGUF, load
    {"llama", "llama", "llama", RopeStyle::half, RopeStyle::interleaved, load_llama},
    {"mistral", "mistral", "", RopeStyle::half, RopeStyle::half, load_llama},
    {"qwen2", "qwen2", "qwen2", RopeStyle::half, RopeStyle::half, load_qwen2},
    {"qwen3", "qwen3", "qwen3", RopeStyle::half, RopeStyle::half, load_qwen3},
    {"qwen2_moe", "qwen2_moe", "qwen2moe", RopeStyle::half, RopeStyle::half, load_qwen2_moe},
    {"qwen3_moe", "qwen3_moe", "qwen3moe", RopeStyle::half, RopeStyle::half, load_qwen3_moe},
    {"qwen", "qwen", "qwen", RopeStyle::half, RopeStyle::half, load_qwen},
    {"glm", "glm", "", RopeStyle::interleaved, RopeStyle::interleaved, load_glm},
    {"glm4", "glm4", "glm4", RopeStyle::interleaved, RopeStyle::interleaved, load_glm4},
    {"chatglm", "chatglm", "chatglm", RopeStyle::interleaved, RopeStyle::interleaved, load_glm},
    {"chatglm1", "chatglm1", "", RopeStyle::half, RopeStyle::half, load_chatglm1},  // so called by read_model_config
    {"bloom", "bloom", "bloom", RopeStyle::half, RopeStyle::half, load_bloom},
    {"bert", "bert", "bert", RopeStyle::half, RopeStyle::half, load_bert},
    {"bert", "roberta", "", RopeStyle::half, RopeStyle::half, load_bert},
    {"bert", "xlm-roberta", "", RopeStyle::half, RopeStyle::half, load_bert},
    {"gte", "new", "", RopeStyle::half, RopeStyle::half, load_bert},  // as published, and as transformers has it
    {"gte", "gte", "", RopeStyle::half, RopeStyle::half, load_bert},
    {"nomic", "nomic_bert", "nomic-bert", RopeStyle::half, RopeStyle::half, load_bert},
}};

/// Its name in the files' dialect; empty: none.
std::string_view name_in(const Checkpoint& checkpoint, const Family& family) {
  return checkpoint.format() == CheckpointFormat::gguf ? family.gguf_arch : family.model_type;
}

/// Null: unknown.
const Family* known_family(const Checkpoint& checkpoint, const ModelConfig& config) {
  const auto* found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family& family) {
    return !config.model_type.empty() && name_in(checkpoint, family) == config.model_type;
  });
  return found == kFamilies.end() ? nullptr : found;
}

const Family& find_family(const Checkpoint& checkpoint, const ModelConfig& config) {
  if (const Family* family = known_family(checkpoint, config)) return *family;
  std::string known;
  for (const Family& family : kFamilies) {
    const std::string_view name = name_in(checkpoint, family);
    if (!name.empty()) known += (known.empty() ? "" : ", ") + std::string(name);
  }
  const bool gguf = checkpoint.format() == CheckpointFormat::gguf;
  throw CheckpointError(log_safe(checkpoint.path()), gguf ? "general.architecture" : "model_type", "one of " + known,
                        log_safe(config.model_type));
}

bool is_encoder(const Family& family) { return family.load == load_bert; }

/// Whether its layers can be divided between two backends (Decoder).
bool divides(const Family& family) {
  return !is_encoder(family) && family.load != load_bloom && family.load != load_chatglm1;
}

/// Whether its matrices can be divided between the ranks of a tensor-parallel backend.
bool shards(const Family& family) {
  return divides(family) && family.load != load_qwen2_moe && family.load != load_qwen3_moe;
}

void check_shards(const Checkpoint& checkpoint, const ModelConfig& config, const Family& family,
                  const ModelOptions& options, int ranks) {
  const std::string path = log_safe(checkpoint.path());
  if (options.host_layers > 0) {
    throw ConfigError("gpu_layers: " + path + ": a model divided between several GPUs leaves no layers on the CPU");
  }
  if (!shards(family)) {
    std::string known;
    for (const Family& other : kFamilies) {
      if (shards(other)) known += (known.empty() ? "" : ", ") + std::string(other.name);
    }
    throw ConfigError("tensor_parallel: " + path + ": expected a model of family " + known + ", found " +
                      std::string(family.name));
  }
  check_divisible(path, config, ranks);
}

/// What the kernels take for granted.
void check_sizes(const Checkpoint& checkpoint, const ModelConfig& config) {
  constexpr int kMaxHeadDim = 256;
  if (config.head_dim > kMaxHeadDim) {
    throw CheckpointError(log_safe(checkpoint.path()), "head_dim", "at most " + std::to_string(kMaxHeadDim),
                          std::to_string(config.head_dim));
  }
}

}  // namespace

void Model::set_adapter(int, const LoraAdapter&) {
  throw ConfigError(info().name + ": this kind of model takes no adapters");
}
void Model::drop_adapter(int) {}

std::span<const Family> families() { return kFamilies; }

bool is_encoder(const Checkpoint& checkpoint, const ModelConfig& config) {
  const Family* family = known_family(checkpoint, config);
  return family != nullptr && is_encoder(*family);
}

bool can_divide(const Checkpoint& checkpoint, const ModelConfig& config) {
  return divides(find_family(checkpoint, config));
}

void check_ranks(const Checkpoint& checkpoint, const ModelConfig& config, int ranks) {
  if (ranks == 1) return;
  check_shards(checkpoint, config, find_family(checkpoint, config), {}, ranks);
  check_column_shards(checkpoint, config, ranks);
}

LoadedModel load_model(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& asked) {
  ModelOptions options = asked;
  if (backend.ranks() > 1) options.max_adapters = 0;  // their updates are not divided
  const Family& family = find_family(checkpoint, config);
  check_sizes(checkpoint, config);
  if (options.host_layers > 0 && !divides(family)) {
    throw ConfigError("gpu_layers: " + log_safe(checkpoint.path()) + ": a model of family " + std::string(family.name) +
                      " cannot be divided between devices");
  }
  if (backend.ranks() > 1) check_shards(checkpoint, config, family, options, backend.ranks());
  INFERD_CHECK(options.host_layers <= config.num_layers && (options.host_layers == 0 || options.host != nullptr));
  ModelConfig resolved = config;
  resolved.family = family.name;
  resolved.rope.interleaved_rows = checkpoint.format() == CheckpointFormat::gguf && family.gguf_rope != family.hf_rope;
  resolved.rope.style = checkpoint.format() == CheckpointFormat::gguf ? family.gguf_rope : family.hf_rope;
  if (is_encoder(family)) return family.load(checkpoint, resolved, backend, options);
  const DecoderRole role = read_decoder_role(checkpoint, resolved);
  if (role.kind == DecoderRole::Kind::generator) return family.load(checkpoint, resolved, backend, options);
  const ModelOptions adjusted = encoder_options(resolved, role, options);
  ScoreHead head;
  if (role.kind == DecoderRole::Kind::reranker) head = load_decoder_head(checkpoint, resolved, backend, options, role);
  LoadedModel loaded = family.load(checkpoint, resolved, backend, adjusted);
  loaded.encoder = make_decoder_encoder(std::move(loaded.decoder), std::move(head), backend, adjusted, role);
  return loaded;
}

}  // namespace inferd
