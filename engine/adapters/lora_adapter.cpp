// Reading PEFT's adapter_config.json and adapter_model.safetensors.
#include "engine/adapters/lora_adapter.h"

#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "base/errors.h"
#include "base/log.h"
#include "engine/adapters/expert_stacks.h"
#include "engine/text/regex.h"
#include "engine/weights/json_fields.h"
#include "engine/weights/safetensors_file.h"

namespace inferd {
namespace {

constexpr JsonLimits kConfigLimits{.max_bytes = 1u << 20, .max_depth = 16, .max_nodes = 100'000};
constexpr std::size_t kMaxPatterns = 256;
constexpr std::size_t kMaxPatternBytes = 512;

/// rank_pattern or alpha_pattern: values for the modules whose name, or its end after a dot, matches.
class ModulePattern {
 public:
  ModulePattern(const Json* object, const std::string& file, const std::string& field, double most)
      : file_(file), field_(field) {
    if (object == nullptr) return;
    if (object->size() > kMaxPatterns) {
      throw CheckpointError(file, field, "at most " + std::to_string(kMaxPatterns) + " patterns",
                            std::to_string(object->size()));
    }
    for (const auto& [pattern, value] : object->items()) {
      if (!value.is_number() || !(value.get<double>() > 0) || value.get<double>() > most) {
        throw CheckpointError(file, field + "." + log_safe(pattern),
                              "a number above 0, at most " + std::to_string(most),
                              value.is_number() ? "another" : value.type_name());
      }
      if (pattern.size() > kMaxPatternBytes) throw CheckpointError(file, field, "shorter patterns", "a long one");
      try {
        rules_.emplace_back(Regex("\\A(?:.*\\.)?(?:" + pattern + ")\\z"), value.get<double>());
      } catch (const std::invalid_argument& error) {
        throw CheckpointError(file, field + "." + log_safe(pattern), "a regular expression", error.what());
      }
    }
  }

  std::optional<double> find(const std::string& module) const {
    std::vector<std::pair<std::size_t, std::size_t>> matches;
    for (const auto& [regex, value] : rules_) {
      matches.clear();
      try {
        regex.find_all(module, &matches);
      } catch (const std::runtime_error& error) {
        throw CheckpointError(file_, field_, "patterns that match in reasonable time", error.what());
      }
      if (!matches.empty()) return value;
    }
    return std::nullopt;
  }

 private:
  std::string file_, field_;
  std::vector<std::pair<Regex, double>> rules_;
};

/// What adapter_config.json says about ranks and scales.
class AdapterConfig {
 public:
  AdapterConfig(const Json& root, const std::string& file)
      : fields_(root, file),
        rank_(fields_.require_integer({"r"}, 1, kMaxAdapterRank)),
        alpha_(fields_.require_number({"lora_alpha"}, 1e-6, 1e6)),
        stabilised_(fields_.boolean({"use_rslora"}).value_or(false)),
        ranks_(fields_.object("rank_pattern"), file, "rank_pattern", static_cast<double>(kMaxAdapterRank)),
        alphas_(fields_.object("alpha_pattern"), file, "alpha_pattern", 1e6),
        parameters_(root, file) {
    if (const auto type = fields_.string({"peft_type"}); type.value_or("") != "LORA") {
      throw CheckpointError(file, "peft_type", "LORA", log_safe(type.value_or("none")));
    }
    for (const char* key : {"use_dora", "lora_bias", "fan_in_fan_out", "use_qalora", "use_bdlora"}) {
      if (fields_.boolean({key}).value_or(false)) throw CheckpointError(file, key, "false", "true");
    }
    for (const char* key : {"alora_invocation_tokens", "arrow_config", "layer_replication"}) {
      if (fields_.has(key)) throw CheckpointError(file, key, "null", "a value");
    }
    if (const auto bias = fields_.string({"bias"}); bias.value_or("none") != "none") {
      throw CheckpointError(file, "bias", "none", log_safe(*bias));
    }
  }

  AdaptedLayer layer(const std::string& stored) const { return parameters_.find(stored); }
  std::int64_t rank(const std::string& module) const {
    const auto own = ranks_.find(module);
    return own ? static_cast<std::int64_t>(*own) : rank_;
  }
  double scale(const std::string& module) const {
    const double rank_here = static_cast<double>(rank(module));
    return alphas_.find(module).value_or(alpha_) / (stabilised_ ? std::sqrt(rank_here) : rank_here);
  }

 private:
  JsonFields fields_;
  std::int64_t rank_;
  double alpha_;
  bool stabilised_;
  ModulePattern ranks_, alphas_;
  TargetParameters parameters_;
};

/// "base_model.model.M.lora_A.weight" into M and 'A'. Throws for every other kind of tensor.
std::pair<std::string, char> split_name(const StoredTensor& tensor) {
  std::string_view name = tensor.name;
  constexpr std::string_view kPrefix = "base_model.model.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  static constexpr std::array<std::pair<std::string_view, char>, 4> kEnds = {{{".lora_A.weight", 'A'},
                                                                              {".lora_B.weight", 'B'},
                                                                              {".lora_A.default.weight", 'A'},
                                                                              {".lora_B.default.weight", 'B'}}};
  for (const auto& [end, factor] : kEnds) {
    if (name.ends_with(end)) return {std::string(name.substr(0, name.size() - end.size())), factor};
  }
  std::string found = "another tensor (a whole module or a bias)";
  if (name.find("lora_embedding_") != std::string_view::npos) found = "factors of an embedding";
  if (name.find("lora_magnitude_vector") != std::string_view::npos) found = "a magnitude of DoRA";
  throw CheckpointError(tensor.file, log_safe(tensor.name), "factors lora_A and lora_B of linear layers only", found);
}

void check_factor(const StoredTensor& tensor) {
  if (tensor.shape.size() != 2) {
    throw CheckpointError(tensor.file, log_safe(tensor.name), "a matrix",
                          std::to_string(tensor.shape.size()) + " dimensions");
  }
  if (tensor.dtype != DType::f32 && tensor.dtype != DType::f16 && tensor.dtype != DType::bf16) {
    throw CheckpointError(tensor.file, log_safe(tensor.name), "F32, F16 or BF16",
                          std::string(dtype_info(tensor.dtype).name));
  }
}

void check_pair(const LoraPair& pair, std::int64_t configured) {
  if (pair.rank() != configured) {
    throw CheckpointError(pair.a.file, log_safe(pair.a.name),
                          "rank " + std::to_string(configured) + " as adapter_config.json says",
                          std::to_string(pair.rank()));
  }
  if (pair.b.shape[1] != pair.rank()) {
    throw CheckpointError(pair.b.file, log_safe(pair.b.name), std::to_string(pair.rank()) + " columns, the rank",
                          std::to_string(pair.b.shape[1]));
  }
}

Json parse_config(const MappedFile& file) {
  const auto bytes = file.bytes();
  if (bytes.size() > kConfigLimits.max_bytes) {
    throw CheckpointError(log_safe(file.path()), "size", "at most 1 MiB", std::to_string(bytes.size()) + " bytes");
  }
  try {
    Json root = parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, kConfigLimits);
    if (root.is_object()) return root;
  } catch (const JsonError& error) {
    throw CheckpointError(log_safe(file.path()) + ": " + error.what());
  }
  throw CheckpointError(log_safe(file.path()), "root", "an object", "another value");
}

}  // namespace

LoraAdapter read_lora_adapter(const AdapterFiles& files) {
  const Json root = parse_config(*files.config);
  const AdapterConfig config(root, log_safe(files.config->path()));
  std::map<std::string, LoraPair> pairs;
  const std::string tensors_file = log_safe(files.tensors->path());
  for (StoredTensor& tensor : read_safetensors(files.tensors->bytes(), tensors_file)) {
    const auto [stored, factor] = split_name(tensor);
    check_factor(tensor);
    LoraPair& pair = pairs[stored];
    pair.module = stored;
    StoredTensor& slot = factor == 'A' ? pair.a : pair.b;
    if (slot.data != nullptr) throw CheckpointError(tensors_file, log_safe(tensor.name), "one factor", "two");
    slot = std::move(tensor);
  }
  if (pairs.empty()) throw CheckpointError(tensors_file, "tensors", "factors lora_A and lora_B", "none");
  LoraAdapter adapter{files.path, {}, files.tensors, {}};
  for (auto& [stored, pair] : pairs) {
    if (pair.a.data == nullptr || pair.b.data == nullptr) {
      throw CheckpointError(tensors_file, log_safe(stored), "both lora_A and lora_B",
                            pair.a.data == nullptr ? "lora_B alone" : "lora_A alone");
    }
    const AdaptedLayer layer = config.layer(stored);
    const std::int64_t rank = config.rank(layer.patterned);
    if (!layer.stack()) check_pair(pair, rank);
    std::vector<LoraPair> found = layer.stack() ? divide_by_expert(pair, layer, rank, adapter) : std::vector{pair};
    for (LoraPair& each : found) {
      each.scale = config.scale(layer.patterned);
      adapter.pairs.push_back(std::move(each));
    }
  }
  return adapter;
}

}  // namespace inferd
