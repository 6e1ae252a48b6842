// Routing, and the experts' turns.
#include "engine/models/expert_mlp.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/architecture_keys.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxWidth = 1 << 20;

/// Names of the matrices to adapters; `module` is the expert's.
void name_slices(Expert& expert, const std::string& module) {
  const std::int64_t width = expert.gate_up.weight->rows() / 2;
  expert.gate_up.slices = {
      {module + ".gate_proj", 0, width}, {module + ".up_proj", width, width}, {module + ".gate_up_proj", 0, 2 * width}};
  expert.down.slices = {{module + ".down_proj", 0, expert.down.weight->rows()}};
}

Expert load_expert(WeightLoader& loader, const std::string& module, std::int64_t hidden, std::int64_t width) {
  Expert out;
  out.gate_up = loader.linear({{module + ".gate_proj", width}, {module + ".up_proj", width}}, hidden, Bias::optional,
                              {.gated = true});
  out.down = loader.linear({{module + ".down_proj", hidden}}, width, Bias::optional);
  return out;
}

Expert load_stacked_expert(WeightLoader& loader, const std::string& module, int index, std::int64_t hidden,
                           const ExpertOptions& options) {
  Expert out;
  out.gate_up = loader.expert_linear({{module + ".gate_proj", options.width}, {module + ".up_proj", options.width}},
                                     index, options.num_experts, hidden, {.gated = true});
  out.down = loader.expert_linear({{module + ".down_proj", hidden}}, index, options.num_experts, options.width);
  return out;
}

/// A file's layers have experts where they have a router.
ExpertOptions read_gguf_options(const Checkpoint& checkpoint, const ModelConfig& config, bool shared) {
  const ArchitectureKeys keys(*checkpoint.metadata(), config.model_type, log_safe(checkpoint.path()));
  ExpertOptions out;
  out.num_experts = static_cast<int>(keys.require_integer("expert_count", 1, kMaxExperts));
  out.top_k =
      static_cast<int>(keys.require_integer("expert_used_count", 1, std::min(out.num_experts, kMaxExpertsPerToken)));
  out.width = keys.integer("expert_feed_forward_length", 1, kMaxWidth)
                  .value_or(std::max<std::int64_t>(config.intermediate_size / out.top_k, 1));
  if (shared) {
    out.shared_width =
        keys.integer("expert_shared_feed_forward_length", 1, kMaxWidth).value_or(config.intermediate_size);
  }
  out.normalize = !shared;  // no key says so: Qwen3's weights sum to 1, Qwen2's do not
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (checkpoint.find("blk." + std::to_string(layer) + ".ffn_gate_inp.weight") == nullptr) {
      out.dense_layers.push_back(layer);
    }
  }
  return out;
}

/// All experts' matrices together, if they can be and none has a bias.
void group(WeightLoader& loader, ExpertMlp& mlp) {
  std::vector<const Weight*> gate_ups, downs;
  for (const Expert& expert : mlp.experts) {
    if (expert.gate_up.bias.buffer || expert.down.bias.buffer) return;
    gate_ups.push_back(expert.gate_up.weight.get());
    downs.push_back(expert.down.weight.get());
  }
  mlp.gate_up = loader.group_experts(gate_ups);
  if (mlp.gate_up) mlp.down = loader.group_experts(downs);
  if (!mlp.down) mlp.gate_up = nullptr;
}

}  // namespace

bool ExpertOptions::sparse(int layer) const {
  const bool dense = std::find(dense_layers.begin(), dense_layers.end(), layer) != dense_layers.end();
  return !dense && (layer + 1) % sparse_step == 0;
}

ExpertOptions read_expert_options(const Checkpoint& checkpoint, const ModelConfig& config, bool shared) {
  if (checkpoint.metadata() != nullptr) return read_gguf_options(checkpoint, config, shared);
  const std::string file = log_safe(checkpoint.path()) + "/config.json";
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) throw CheckpointError(file, "top level", "an object", "none");
  const JsonFields fields(*json, file);
  ExpertOptions out;
  out.num_experts = static_cast<int>(fields.require_integer({"num_experts", "num_local_experts"}, 1, kMaxExperts));
  out.top_k = static_cast<int>(
      fields.require_integer({"num_experts_per_tok"}, 1, std::min(out.num_experts, kMaxExpertsPerToken)));
  out.width = fields.require_integer({"moe_intermediate_size"}, 1, kMaxWidth);
  if (shared) out.shared_width = fields.require_integer({"shared_expert_intermediate_size"}, 1, kMaxWidth);
  out.normalize = fields.boolean({"norm_topk_prob"}).value_or(false);
  out.sparse_step = static_cast<int>(fields.integer({"decoder_sparse_step"}, 1, config.num_layers).value_or(1));
  out.dense_layers = fields.integers({"mlp_only_layers"}, 0, config.num_layers - 1);
  return out;
}

std::vector<Linear*> ExpertMlp::linears() {
  std::vector<Linear*> all{&router};
  for (Expert& expert : experts) all.insert(all.end(), {&expert.gate_up, &expert.down});
  if (shared.down.weight) all.insert(all.end(), {&shared.gate_up, &shared.down, &shared_gate});
  return all;
}

std::uint32_t ExpertMlp::input_forms() const {
  std::uint32_t forms = router.weight->activation_forms();
  if (shared.down.weight) {
    forms |= shared.gate_up.weight->activation_forms() | shared_gate.weight->activation_forms();
  }
  return forms;
}

std::unique_ptr<ExpertMlp> load_expert_mlp(WeightLoader& loader, const std::string& layer, std::int64_t hidden_size,
                                           const ExpertOptions& options) {
  auto out = std::make_unique<ExpertMlp>();
  out->router = loader.linear({{layer + "mlp.gate", options.num_experts}}, hidden_size, Bias::optional);
  out->router.slices = {{layer + "mlp.gate", 0, options.num_experts}};
  const std::string all = layer + "mlp.experts";
  const bool stacked = loader.has_stacked_experts();
  for (int i = 0; i < options.num_experts; ++i) {
    out->experts.push_back(stacked ? load_stacked_expert(loader, all, i, hidden_size, options)
                                   : load_expert(loader, all + "." + std::to_string(i), hidden_size, options.width));
    name_slices(out->experts.back(), all + "." + std::to_string(i));
  }
  group(loader, *out);
  if (options.shared_width > 0) {
    out->shared = load_expert(loader, layer + "mlp.shared_expert", hidden_size, options.shared_width);
    name_slices(out->shared, layer + "mlp.shared_expert");
    out->shared_gate = loader.linear({{layer + "mlp.shared_expert_gate", 1}}, hidden_size, Bias::optional);
    out->shared_gate.slices = {{layer + "mlp.shared_expert_gate", 0, 1}};
  }
  return out;
}

}  // namespace inferd
