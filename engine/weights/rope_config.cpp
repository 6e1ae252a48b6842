// Rope settings of config.json: `rope_theta` + `rope_scaling` (old) or one object `rope_parameters` (new).
#include <algorithm>
#include <array>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/config_readers.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr double kMaxFactor = 1e6;

std::string scaling_kind(const JsonFields& fields, const std::string& file, const std::string& prefix) {
  std::string kind = fields.string({"rope_type", "type"}).value_or("default");
  if (kind == "su") kind = "longrope";  // its first name
  static constexpr std::array<std::string_view, 6> kKinds{"default", "linear", "dynamic", "llama3", "yarn", "longrope"};
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    throw CheckpointError(file, prefix + "rope_type", "default, linear, dynamic, llama3, yarn or longrope",
                          log_safe(kind));
  }
  return kind;
}

/// Families that may leave partial_rotary_factor out.
bool rotates_half_a_head(std::string_view model_type) {
  return model_type.starts_with("chatglm") || model_type == "glm" || model_type == "glm4";
}

void read_scaling(const JsonFields& fields, const JsonFields& root, RopeConfig* rope) {
  const bool original_needed = rope->scaling == "llama3" || rope->scaling == "longrope";
  auto original = fields.integer({"original_max_position_embeddings"}, 1, ConfigLimits::kContext);
  if (!original) original = root.integer({"original_max_position_embeddings"}, 1, ConfigLimits::kContext);
  if (!original && original_needed) {
    fields.require_integer({"original_max_position_embeddings"}, 1, ConfigLimits::kContext);
  }
  rope->original_max_position_embeddings = original.value_or(0);
  if (rope->scaling != "longrope") {
    rope->factor = fields.require_number({"factor"}, 1e-3, kMaxFactor);
  } else {
    rope->factor = fields.number({"factor"}, 1e-3, kMaxFactor).value_or(0.0);  // 0: from the context lengths
    rope->short_factors = fields.floats({"short_factor"}).value_or(std::vector<float>{});
    rope->long_factors = fields.floats({"long_factor"}).value_or(std::vector<float>{});
  }
  if (rope->scaling == "llama3") {
    rope->low_freq_factor = fields.require_number({"low_freq_factor"}, 1e-6, kMaxFactor);
    rope->high_freq_factor = fields.require_number({"high_freq_factor"}, 1e-6, kMaxFactor);
  }
  rope->beta_fast = fields.number({"beta_fast"}, 1e-6, kMaxFactor).value_or(rope->beta_fast);
  rope->beta_slow = fields.number({"beta_slow"}, 1e-6, kMaxFactor).value_or(rope->beta_slow);
  rope->truncate = fields.boolean({"truncate"}).value_or(true);
  rope->attention_factor = fields.number({"attention_factor"}, 0.0, kMaxFactor);
  rope->mscale = fields.number({"mscale"}, 0.0, kMaxFactor);
  rope->mscale_all_dim = fields.number({"mscale_all_dim"}, 0.0, kMaxFactor);
}

}  // namespace

RopeConfig read_json_rope(const Json& root_json, const std::string& file, const ModelConfig& config) {
  RopeConfig rope;
  if (!family_has_rope(config.model_type)) return rope;
  const JsonFields root(root_json, file);
  const bool new_dialect = root.has("rope_parameters");
  const std::string member = new_dialect ? "rope_parameters" : "rope_scaling";
  const Json empty = Json::object();
  const Json* found = root.object(member);
  const JsonFields fields(found != nullptr ? *found : empty, file, member + ".");

  auto theta = fields.number({"rope_theta"}, 1.0 + 1e-6, 1e15);
  if (!theta) theta = root.number({"rope_theta", "rotary_emb_base"}, 1.0 + 1e-6, 1e15);
  rope.theta = theta.value_or(10000.0) * root.number({"rope_ratio"}, 1e-3, kMaxFactor).value_or(1.0);

  auto part = fields.number({"partial_rotary_factor"}, 1e-6, 1.0);
  if (!part) part = root.number({"partial_rotary_factor", "rotary_pct"}, 1e-6, 1.0);
  rope.rotary_dim = static_cast<int>(static_cast<double>(config.head_dim) *
                                     part.value_or(rotates_half_a_head(config.model_type) ? 0.5 : 1.0));
  if (rope.rotary_dim < 2) {
    throw CheckpointError(file, "partial_rotary_factor",
                          "at least 2 rotary dimensions of " + std::to_string(config.head_dim),
                          std::to_string(rope.rotary_dim));
  }
  rope.scaling = scaling_kind(fields, file, member + ".");
  if (rope.scaling != "default") read_scaling(fields, root, &rope);
  if (rope.scaling == "longrope" && (rope.short_factors.empty() || rope.long_factors.empty())) {
    throw CheckpointError(file, member + ".short_factor", "short_factor and long_factor", "none");
  }
  if (rope.scaling == "llama3" && rope.high_freq_factor <= rope.low_freq_factor) {
    throw CheckpointError(file, member + ".high_freq_factor", "more than low_freq_factor",
                          std::to_string(rope.high_freq_factor));
  }
  return rope;
}

}  // namespace inferd
