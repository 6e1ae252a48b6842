// Routing, and the experts' turns.
#include "engine/models/expert_mlp.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/models/arena_layout.h"
#include "engine/weights/architecture_keys.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxExperts = 1024;
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
  out.top_k = static_cast<int>(keys.require_integer("expert_used_count", 1, out.num_experts));
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
  out.top_k = static_cast<int>(fields.require_integer({"num_experts_per_tok"}, 1, out.num_experts));
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
  if (options.shared_width > 0) {
    out->shared = load_expert(loader, layer + "mlp.shared_expert", hidden_size, options.shared_width);
    name_slices(out->shared, layer + "mlp.shared_expert");
    out->shared_gate = loader.linear({{layer + "mlp.shared_expert_gate", 1}}, hidden_size, Bias::optional);
    out->shared_gate.slices = {{layer + "mlp.shared_expert_gate", 0, 1}};
  }
  return out;
}

ExpertRunner::ExpertRunner(Backend& backend, std::int64_t hidden_size, std::int64_t max_tokens,
                           const ExpertOptions& options, const std::vector<const ExpertMlp*>& mlps)
    : backend_(backend), hidden_size_(hidden_size), options_(options) {
  memory_ = backend.allocate(lay_out(nullptr, max_tokens, mlps));
  lay_out(memory_->data(), max_tokens, mlps);
  backend.reserve_workspace(max_tokens, std::max({hidden_size, options.width, options.shared_width}));
  const auto tokens = static_cast<std::size_t>(max_tokens);
  const std::size_t picks = tokens * static_cast<std::size_t>(options.top_k);
  host_logits_.resize(tokens * static_cast<std::size_t>(options.num_experts));
  host_product_.resize(tokens * static_cast<std::size_t>(hidden_size));
  sums_.resize(host_product_.size());
  host_gate_.resize(tokens);
  experts_.resize(picks);
  weights_.resize(picks);
  sorted_.resize(picks);
  starts_.resize(static_cast<std::size_t>(options.num_experts) + 1);
  for (std::vector<std::int32_t>* rows : {&host_rows_, &host_slots_, &gathered_slots_}) rows->resize(tokens);
}

std::size_t ExpertRunner::lay_out(void* base, std::int64_t tokens, const std::vector<const ExpertMlp*>& mlps) {
  ArenaLayout arena(base);
  std::uint32_t gathered_forms = 0, inner_forms = 0, shared_forms = 0;
  for (const ExpertMlp* mlp : mlps) {
    for (const Expert& expert : mlp->experts) {
      gathered_forms |= expert.gate_up.weight->activation_forms();
      inner_forms |= expert.down.weight->activation_forms();
    }
    if (mlp->shared.down.weight) shared_forms |= mlp->shared.down.weight->activation_forms();
  }
  for (Tensor* tensor : {&input_, &gathered_, &product_}) *tensor = arena.matrix(tokens, hidden_size_);
  logits_ = arena.matrix(tokens, options_.num_experts);
  gate_ = arena.matrix(tokens, 1);
  for (Tensor* tensor : {&rows_, &slots_}) {
    *tensor = Tensor(arena.place(static_cast<std::size_t>(tokens) * sizeof(std::int32_t)), DType::i32, {tokens});
  }
  gathered_activation_ = arena.activation(backend_, tokens, hidden_size_, gathered_forms);
  inner_ = arena.activation(backend_, tokens, options_.width, inner_forms);
  if (options_.shared_width > 0) {
    shared_inner_ = arena.activation(backend_, tokens, options_.shared_width, shared_forms);
  }
  return arena.total_bytes();
}

/// The token's best experts by softmax of its logits, the lower index first among equals.
void ExpertRunner::pick(std::int64_t token) {
  const auto count = static_cast<std::size_t>(options_.num_experts), best = static_cast<std::size_t>(options_.top_k);
  float* row = host_logits_.data() + static_cast<std::size_t>(token) * count;
  std::int32_t* experts = experts_.data() + static_cast<std::size_t>(token) * best;
  float* weights = weights_.data() + static_cast<std::size_t>(token) * best;
  const float maximum = *std::max_element(row, row + count);
  float sum = 0.0f;
  for (std::size_t i = 0; i < count; ++i) sum += row[i] = std::exp(row[i] - maximum);
  float picked = 0.0f;
  for (std::size_t k = 0; k < best; ++k) {
    const float* top = std::max_element(row, row + count);
    experts[k] = static_cast<std::int32_t>(top - row);
    weights[k] = *top / sum;
    picked += weights[k];
    row[top - row] = -1.0f;  // below every exponential; after NaN any expert will do, the logits show it
  }
  if (!options_.normalize) return;
  for (std::size_t k = 0; k < best; ++k) weights[k] /= picked;
}

void ExpertRunner::route(const ExpertMlp& mlp, const Activation& normed, std::int64_t tokens,
                         const ExpertAdapters& adapters) {
  const Tensor logits = logits_.first_rows(tokens);
  backend_.linear(
      {.x = normed,
       .num_tokens = tokens,
       .weight = mlp.router.weight.get(),
       .addend = adapters.bank->addend(backend_, mlp.router, normed, tokens, adapters.slots, adapters.memory),
       .bias = mlp.router.bias.tensor(),
       .out = logits});
  backend_.synchronize();
  if (adapters.slots) {
    backend_.download(host_slots_.data(), adapters.slots.data, static_cast<std::size_t>(tokens) * sizeof(std::int32_t));
  }
  backend_.download(host_logits_.data(), logits.data, static_cast<std::size_t>(logits.elements()) * sizeof(float));
  for (std::int64_t token = 0; token < tokens; ++token) pick(token);
  std::fill(starts_.begin(), starts_.end(), 0);
  const auto picks = static_cast<std::size_t>(tokens * options_.top_k);
  for (std::size_t i = 0; i < picks; ++i) ++starts_[static_cast<std::size_t>(experts_[i]) + 1];
  for (std::size_t e = 1; e < starts_.size(); ++e) starts_[e] += starts_[e - 1];
  for (std::size_t i = 0; i < picks; ++i) {
    const auto token = static_cast<std::int32_t>(i / static_cast<std::size_t>(options_.top_k));
    sorted_[starts_[static_cast<std::size_t>(experts_[i])]++] = {token, weights_[i]};
  }
  // Every start has moved to its end.
  for (std::size_t e = starts_.size() - 1; e > 0; --e) starts_[e] = starts_[e - 1];
  starts_[0] = 0;
}

void ExpertRunner::multiply(const Expert& expert, const Activation& x, const Activation& inner, std::int64_t tokens,
                            const Tensor& slots, const ExpertAdapters& adapters) {
  const auto addend = [&](const Linear& linear, const Activation& of) {
    return adapters.bank->addend(backend_, linear, of, tokens, slots, adapters.memory);
  };
  backend_.linear({.x = x,
                   .num_tokens = tokens,
                   .weight = expert.gate_up.weight.get(),
                   .addend = addend(expert.gate_up, x),
                   .bias = expert.gate_up.bias.tensor(),
                   .epilogue = Epilogue::silu_gated,
                   .out_activation = inner});
  backend_.linear({.x = inner,
                   .num_tokens = tokens,
                   .weight = expert.down.weight.get(),
                   .addend = addend(expert.down, inner),
                   .bias = expert.down.bias.tensor(),
                   .out = product_.first_rows(tokens)});
}

void ExpertRunner::run_expert(const Expert& expert, std::size_t begin, std::size_t end,
                              const ExpertAdapters& adapters) {
  const auto tokens = static_cast<std::int64_t>(end - begin);
  for (std::size_t i = begin; i < end; ++i) host_rows_[i - begin] = sorted_[i].token;
  backend_.upload(rows_.data, host_rows_.data(), (end - begin) * sizeof(std::int32_t));
  Tensor slots;
  if (adapters.slots) {
    for (std::size_t i = begin; i < end; ++i) {
      gathered_slots_[i - begin] = host_slots_[static_cast<std::size_t>(sorted_[i].token)];
    }
    slots = slots_.first_rows(tokens);
    backend_.upload(slots.data, gathered_slots_.data(), (end - begin) * sizeof(std::int32_t));
  }
  const Tensor gathered = gathered_.first_rows(tokens), product = product_.first_rows(tokens);
  backend_.gather_rows({.x = input_, .rows = rows_.first_rows(tokens), .out = gathered});
  backend_.to_activation({.x = gathered, .out = gathered_activation_});
  multiply(expert, gathered_activation_, inner_, tokens, slots, adapters);
  backend_.synchronize();
  const auto width = static_cast<std::size_t>(hidden_size_);
  backend_.download(host_product_.data(), product.data, (end - begin) * width * sizeof(float));
  for (std::size_t i = begin; i < end; ++i) {
    float* sum = sums_.data() + static_cast<std::size_t>(sorted_[i].token) * width;
    const float* row = host_product_.data() + (i - begin) * width;
    for (std::size_t c = 0; c < width; ++c) sum[c] += sorted_[i].weight * row[c];
  }
}

void ExpertRunner::run_shared(const ExpertMlp& mlp, const Activation& normed, std::int64_t tokens,
                              const ExpertAdapters& adapters) {
  const Tensor product = product_.first_rows(tokens), gate = gate_.first_rows(tokens);
  multiply(mlp.shared, normed, shared_inner_, tokens, adapters.slots, adapters);
  backend_.linear(
      {.x = normed,
       .num_tokens = tokens,
       .weight = mlp.shared_gate.weight.get(),
       .addend = adapters.bank->addend(backend_, mlp.shared_gate, normed, tokens, adapters.slots, adapters.memory),
       .out = gate});
  backend_.synchronize();
  const auto width = static_cast<std::size_t>(hidden_size_), rows = static_cast<std::size_t>(tokens);
  backend_.download(host_product_.data(), product.data, rows * width * sizeof(float));
  backend_.download(host_gate_.data(), gate.data, rows * sizeof(float));
  for (std::size_t row = 0; row < rows; ++row) {
    const float factor = 1.0f / (1.0f + std::exp(-host_gate_[row]));
    for (std::size_t c = row * width; c < (row + 1) * width; ++c) sums_[c] += factor * host_product_[c];
  }
}

void ExpertRunner::run(const ExpertMlp& mlp, const Activation& normed, const Tensor& x,
                       const ExpertAdapters& adapters) {
  const std::int64_t tokens = x.dim(0);
  INFERD_CHECK(tokens <= input_.dim(0) && x.row_stride == hidden_size_);
  const auto count = static_cast<std::size_t>(tokens * hidden_size_);
  route(mlp, normed, tokens, adapters);
  std::fill_n(sums_.begin(), count, 0.0f);
  for (std::size_t e = 0; e < mlp.experts.size(); ++e) {
    if (starts_[e] < starts_[e + 1]) run_expert(mlp.experts[e], starts_[e], starts_[e + 1], adapters);
  }
  if (mlp.shared.down.weight) run_shared(mlp, normed, tokens, adapters);
  backend_.download(host_product_.data(), x.data, count * sizeof(float));
  for (std::size_t i = 0; i < count; ++i) host_product_[i] += sums_[i];
  backend_.upload(x.data, host_product_.data(), count * sizeof(float));
}

}  // namespace inferd
