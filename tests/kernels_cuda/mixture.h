// Products of mixtures of experts in a simulator's memory.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cuda/experts.h"
#include "tests/kernels_cuda/expert_plan.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/linear_reference.h"

namespace inferd::cuda::test {

using inferd::testing::HostPlan;

/// Tokens that experts of one format compute: grouped, against fp64 of the rows as they are rounded. Weights have
/// `rows` rows, gated ones gates and ups together.
struct Mixture {
  static constexpr std::int64_t kExperts = 4, kTopK = 2;

  Mixture(int arch, DType dtype, std::int64_t row_count, std::int64_t columns, std::int64_t token_count, bool is_gated,
          int schedules)
      : rows(row_count),
        outs(is_gated ? row_count / 2 : row_count),
        tokens(token_count),
        gated(is_gated),
        sim(arch, std::size_t{1} << 20, schedules),
        plan(sim, tokens, kTopK, kExperts) {
    for (std::uint32_t e = 0; e < kExperts; ++e) {
      stored.emplace_back(dtype, rows / 2, columns, 2 * e);
      stored.emplace_back(dtype, rows / 2, columns, 2 * e + 1);
      weights.push_back(std::make_unique<CudaWeight>(
          sim_weight(sim, {stored[2 * e].source(), stored[2 * e + 1].source()}, {.gated = gated})));
      views.push_back(weights.back().get());
    }
    SimWeightMemory memory(sim);
    group = group_experts(views, memory);
    REQUIRE(group != nullptr);
    // Expert 2 has none of the tokens, expert 0 half of all picks.
    std::vector<float> logits;
    for (std::int64_t t = 0; t < tokens; ++t) logits.insert(logits.end(), {9.0f, t % 3 == 1 ? 5.0f : 1.0f, 0.0f, 3.0f});
    RouteArgs route_args;
    route_args.logits = sim.put(logits, DType::f32, {tokens, kExperts}, "logits");
    route_args.plan = plan.view;
    route(sim, route_args);
    chosen = plan.host();
    normed = std::make_unique<SimActivation>(sim, random_rows(tokens, columns, 7), tokens, columns,
                                             views[0]->activation_forms());
    const std::int64_t all = plan.view.tokens.dim(0);
    gathered = normed->view;
    gathered.rows = all;
    std::size_t bytes = 0;
    activation_planes(nullptr, all, columns, gathered.forms, &bytes);
    gathered.data = sim.allocate(bytes, "gathered", true);
    gather_activation(sim, {normed->view, plan.view.tokens, gathered});
    out = sim.output(DType::f32, {all, outs}, "out");
  }

  /// Rows of the product, -7 where nothing is written.
  std::vector<float> run() {
    const std::vector<float> before(static_cast<std::size_t>(out.elements()), -7.0f);
    sim.write(out.data, before.data(), before.size() * sizeof(float));
    ExpertLinearArgs args;
    args.x = gathered;
    args.plan = &plan.view;
    args.group = group.get();
    args.epilogue = gated ? Epilogue::silu_gated : Epilogue::none;
    args.out = out;
    expert_linear(sim, args);
    return sim.get<float>(out.data, before.size());
  }

  /// What run() must give; exactly -7 where nothing is written.
  Product expected() {
    EpilogueReference reference;
    reference.function = gated ? ActivationFunction::silu : ActivationFunction::none;
    reference.gated = gated;
    const auto all = static_cast<std::size_t>(out.elements()), columns = static_cast<std::size_t>(outs);
    Product grouped{std::vector<double>(all, -7), std::vector<double>(all)};
    for (std::size_t e = 0; e < weights.size(); ++e) {
      std::vector<float> w = stored[2 * e].widened();
      const std::vector<float> second = stored[2 * e + 1].widened();
      w.insert(w.end(), second.begin(), second.end());
      const auto x = values_of(sim, normed->view, weights[e]->parts()[0].form);
      const Product of_all_tokens =
          reference(multiply(w, x, static_cast<std::size_t>(weights[e]->columns())), static_cast<std::size_t>(rows));
      for (std::int32_t i = 0; i < chosen.counts[e]; ++i) {
        const auto row = static_cast<std::size_t>(chosen.starts[e] + i);
        const auto from = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(chosen.tokens[row]) * columns);
        const auto to = static_cast<std::ptrdiff_t>(row * columns), count = static_cast<std::ptrdiff_t>(columns);
        std::copy_n(of_all_tokens.sums.begin() + from, count, grouped.sums.begin() + to);
        std::copy_n(of_all_tokens.error.begin() + from, count, grouped.error.begin() + to);
      }
    }
    return grouped;
  }

  std::int64_t rows, outs, tokens;
  bool gated;
  SimLauncher sim;
  SimPlan plan;
  HostPlan chosen;
  std::vector<inferd::testing::StoredMatrix> stored;
  std::vector<std::unique_ptr<CudaWeight>> weights;
  std::vector<const Weight*> views;
  std::unique_ptr<CudaExpertGroup> group;
  std::unique_ptr<SimActivation> normed;
  Activation gathered;
  Tensor out;  // [rows of the plan, outs]
};

}  // namespace inferd::cuda::test
