// The steps of a mixture of experts: routing, the experts' products, their sums.
#include <algorithm>

#include "base/check.h"
#include "engine/models/arena_layout.h"
#include "engine/models/expert_mlp.h"

namespace inferd {
namespace {

/// Rows [first, first + count).
Tensor rows_of(const Tensor& tensor, std::int64_t first, std::int64_t count) {
  INFERD_CHECK(first + count <= tensor.dim(0));
  Tensor view = tensor;
  view.data = static_cast<std::byte*>(tensor.data) + static_cast<std::size_t>(first * tensor.row_stride) * 4;
  view.shape[0] = count;
  return view;
}

}  // namespace

ExpertRunner::ExpertRunner(Backend& backend, std::int64_t hidden_size, std::int64_t max_tokens,
                           const ExpertOptions& options, const std::vector<const ExpertMlp*>& mlps)
    : backend_(backend), hidden_size_(hidden_size), options_(options) {
  memory_ = backend.allocate(lay_out(nullptr, max_tokens, mlps));
  lay_out(memory_->data(), max_tokens, mlps);
  backend.reserve_workspace(max_tokens, std::max({hidden_size, options.width, options.shared_width}));
  backend.reserve_workspace(product_.dim(0), options.width);
  const auto tokens = static_cast<std::size_t>(max_tokens);
  for (std::vector<std::int32_t>* experts : {&starts_, &counts_}) {
    experts->resize(static_cast<std::size_t>(options.num_experts));
  }
  tokens_.resize(static_cast<std::size_t>(product_.dim(0)));
  for (std::vector<std::int32_t>* slots : {&host_slots_, &gathered_slots_}) slots->resize(tokens);
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
  const std::int64_t experts = options_.num_experts, top_k = options_.top_k;
  const std::int64_t rows = expert_rows(tokens, top_k, experts);
  const auto integers = [&](std::int64_t count, std::int64_t columns) {
    const auto bytes = static_cast<std::size_t>(count * columns) * sizeof(std::int32_t);
    return Tensor(arena.place(bytes), DType::i32, {count, columns});
  };
  const auto row = [&](std::int64_t count) {
    const Tensor tensor = integers(count, 1);
    return Tensor(tensor.data, DType::i32, {count});
  };
  for (Tensor* tensor : {&input_, &gathered_}) *tensor = arena.matrix(tokens, hidden_size_);
  product_ = arena.matrix(rows, hidden_size_);
  shared_ = arena.matrix(options_.shared_width > 0 ? tokens : 0, hidden_size_);
  logits_ = arena.matrix(tokens, experts);
  gate_ = arena.matrix(tokens, 1);
  slots_ = row(tokens);
  for (Tensor* tensor : {&plan_.starts, &plan_.counts}) *tensor = row(experts);
  plan_.tokens = row(rows);
  for (Tensor* tensor : {&plan_.experts, &plan_.places}) *tensor = integers(tokens, top_k);
  plan_.weights = arena.matrix(tokens, top_k);
  plan_.tiles = integers(rows, 4);
  gathered_activation_ = arena.activation(backend_, rows, hidden_size_, gathered_forms);
  inner_ = arena.activation(backend_, rows, options_.width, inner_forms);
  if (options_.shared_width > 0) {
    shared_inner_ = arena.activation(backend_, tokens, options_.shared_width, shared_forms);
  }
  return arena.total_bytes();
}

ExpertPlan ExpertRunner::plan_of(std::int64_t tokens) const {
  const std::int64_t rows = expert_rows(tokens, options_.top_k, options_.num_experts);
  ExpertPlan plan = plan_;
  plan.tokens = plan_.tokens.first_rows(rows);
  plan.tiles = plan_.tiles.first_rows(rows);
  for (Tensor* tensor : {&plan.experts, &plan.places, &plan.weights}) *tensor = tensor->first_rows(tokens);
  return plan;
}

void ExpertRunner::route(const ExpertMlp& mlp, const Activation& normed, const ExpertPlan& plan,
                         const ExpertAdapters& adapters) {
  const std::int64_t tokens = plan.experts.dim(0);
  const Tensor logits = logits_.first_rows(tokens);
  backend_.linear(
      {.x = normed,
       .num_tokens = tokens,
       .weight = mlp.router.weight.get(),
       .addend = adapters.bank->addend(backend_, mlp.router, normed, tokens, adapters.slots, adapters.memory),
       .bias = mlp.router.bias.tensor(),
       .out = logits});
  backend_.route({.logits = logits, .normalize = options_.normalize, .plan = plan});
}

void ExpertRunner::multiply(const Expert& expert, const Activation& x, const Activation& inner, const Tensor& product,
                            const Tensor& slots, const ExpertAdapters& adapters) {
  const std::int64_t tokens = product.dim(0);
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
                   .out = product});
}

void ExpertRunner::run_grouped(const ExpertMlp& mlp, const Activation& normed, const ExpertPlan& plan) {
  backend_.gather_activation({.x = normed, .rows = plan.tokens, .out = gathered_activation_});
  backend_.expert_linear({.x = gathered_activation_,
                          .plan = &plan,
                          .group = mlp.gate_up.get(),
                          .epilogue = Epilogue::silu_gated,
                          .out_activation = inner_});
  backend_.expert_linear(
      {.x = inner_, .plan = &plan, .group = mlp.down.get(), .out = product_.first_rows(plan.tokens.dim(0))});
}

void ExpertRunner::run_expert(const Expert& expert, std::int64_t first, std::int64_t rows, const ExpertPlan& plan,
                              const ExpertAdapters& adapters) {
  Tensor slots;
  if (adapters.slots) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int32_t token = tokens_[static_cast<std::size_t>(first + i)];
      gathered_slots_[static_cast<std::size_t>(i)] = host_slots_[static_cast<std::size_t>(token)];
    }
    slots = slots_.first_rows(rows);
    backend_.upload(slots.data, gathered_slots_.data(), static_cast<std::size_t>(rows) * sizeof(std::int32_t));
  }
  const Tensor gathered = gathered_.first_rows(rows);
  backend_.gather_rows({.x = input_, .rows = rows_of(plan.tokens, first, rows), .out = gathered});
  backend_.to_activation({.x = gathered, .out = gathered_activation_});
  multiply(expert, gathered_activation_, inner_, rows_of(product_, first, rows), slots, adapters);
}

void ExpertRunner::run_by_turns(const ExpertMlp& mlp, const ExpertPlan& plan, const ExpertAdapters& adapters) {
  const auto fetch = [&](std::vector<std::int32_t>& to, const Tensor& from) {
    backend_.download(to.data(), from.data, static_cast<std::size_t>(from.dim(0)) * sizeof(std::int32_t));
  };
  fetch(starts_, plan.starts);
  fetch(counts_, plan.counts);
  if (adapters.slots) {
    fetch(tokens_, plan.tokens);
    fetch(host_slots_, adapters.slots);
  }
  for (std::size_t e = 0; e < mlp.experts.size(); ++e) {
    if (counts_[e] > 0) run_expert(mlp.experts[e], starts_[e], counts_[e], plan, adapters);
  }
}

void ExpertRunner::run(const ExpertMlp& mlp, const Activation& normed, const Tensor& x,
                       const ExpertAdapters& adapters) {
  const std::int64_t tokens = x.dim(0);
  INFERD_CHECK(tokens <= input_.dim(0) && x.row_stride == hidden_size_);
  const ExpertPlan plan = plan_of(tokens);
  route(mlp, normed, plan, adapters);
  if (mlp.grouped() && !adapters.slots) {
    run_grouped(mlp, normed, plan);
  } else {
    run_by_turns(mlp, plan, adapters);
  }
  CombineExpertsArgs combine{.product = product_.first_rows(plan.tokens.dim(0)), .plan = &plan, .x = x};
  if (mlp.shared.down.weight) {
    combine.shared = shared_.first_rows(tokens);
    combine.gate = gate_.first_rows(tokens);
    multiply(mlp.shared, normed, shared_inner_, combine.shared, adapters.slots, adapters);
    backend_.linear(
        {.x = normed,
         .num_tokens = tokens,
         .weight = mlp.shared_gate.weight.get(),
         .addend = adapters.bank->addend(backend_, mlp.shared_gate, normed, tokens, adapters.slots, adapters.memory),
         .out = combine.gate});
  }
  backend_.combine_experts(combine);
}

}  // namespace inferd
