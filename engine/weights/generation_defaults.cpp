// Sampling defaults: generation_config.json, or general.sampling.* of a GGUF file.
#include <cmath>
#include <filesystem>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/json_fields.h"
#include "engine/weights/model_config.h"

namespace inferd {
namespace {

constexpr double kSmallest = 1e-6;  // top_p and repetition_penalty must be above 0
constexpr double kMaxTemperature = 100.0;
constexpr double kMaxPenalty = 100.0;
constexpr std::int64_t kMaxTopK = 1 << 24;

std::optional<float> as_float(std::optional<double> value) {
  if (!value) return std::nullopt;
  return static_cast<float>(*value);
}

/// -1 and 0 both mean "off".
std::optional<int> as_top_k(std::optional<std::int64_t> value) {
  if (!value) return std::nullopt;
  return *value > 0 ? static_cast<int>(*value) : 0;
}

std::optional<float> sampling_number(const GgufMetadata& metadata, const std::string& file, const char* key, double low,
                                     double high) {
  const auto value = metadata.number(key);
  if (value && !(*value >= low && *value <= high)) {
    throw CheckpointError(file, key, "a number from " + std::to_string(low) + " to " + std::to_string(high),
                          std::to_string(*value));
  }
  return as_float(value);
}

GenerationDefaults read_gguf_defaults(const GgufMetadata& metadata, const std::string& file) {
  GenerationDefaults defaults;
  defaults.temperature = sampling_number(metadata, file, "general.sampling.temp", 0.0, kMaxTemperature);
  defaults.top_p = sampling_number(metadata, file, "general.sampling.top_p", kSmallest, 1.0);
  defaults.min_p = sampling_number(metadata, file, "general.sampling.min_p", 0.0, 1.0);
  defaults.repetition_penalty =
      sampling_number(metadata, file, "general.sampling.penalty_repeat", kSmallest, kMaxPenalty);
  const auto top_k = metadata.integer("general.sampling.top_k");
  if (top_k && (*top_k < -1 || *top_k > kMaxTopK)) {
    throw CheckpointError(file, "general.sampling.top_k", "an integer from -1 to " + std::to_string(kMaxTopK),
                          std::to_string(*top_k));
  }
  defaults.top_k = as_top_k(top_k);
  return defaults;
}

}  // namespace

GenerationDefaults read_generation_defaults(const Checkpoint& checkpoint) {
  if (const GgufMetadata* metadata = checkpoint.metadata()) {
    return read_gguf_defaults(*metadata, log_safe(checkpoint.path()));
  }
  const auto json = checkpoint.json("generation_config.json");
  if (!json) return {};
  const JsonFields fields(*json,
                          log_safe((std::filesystem::path(checkpoint.path()) / "generation_config.json").string()));
  GenerationDefaults defaults;
  defaults.temperature = as_float(fields.number({"temperature"}, 0.0, kMaxTemperature));
  defaults.top_p = as_float(fields.number({"top_p"}, kSmallest, 1.0));
  defaults.min_p = as_float(fields.number({"min_p"}, 0.0, 1.0));
  defaults.repetition_penalty = as_float(fields.number({"repetition_penalty"}, kSmallest, kMaxPenalty));
  defaults.top_k = as_top_k(fields.integer({"top_k"}, -1, kMaxTopK));
  return defaults;
}

}  // namespace inferd
