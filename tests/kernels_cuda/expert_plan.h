// A plan of a mixture in a simulator's memory.
#pragma once

#include <limits>

#include "kernels/cuda/experts.h"
#include "tests/kernels/expert_reference.h"
#include "tests/kernels_cuda/sim_launcher.h"

namespace inferd::cuda::test {

/// What the memory of a plan's rows holds before it is made: no token, and no gap's -1 either.
inline constexpr std::int32_t kNoRow = std::numeric_limits<std::int32_t>::max();

struct SimPlan {
  SimPlan(SimLauncher& simulator, std::int64_t tokens, std::int64_t top_k, std::int64_t experts) : sim(simulator) {
    const std::int64_t rows = expert_rows(tokens, top_k, experts);
    view.starts = sim.output(DType::i32, {experts}, "starts");
    view.counts = sim.output(DType::i32, {experts}, "counts");
    view.tokens =
        sim.put(std::vector<std::int32_t>(static_cast<std::size_t>(rows), kNoRow), DType::i32, {rows}, "tokens");
    view.experts = sim.output(DType::i32, {tokens, top_k}, "experts");
    view.places = sim.output(DType::i32, {tokens, top_k}, "places");
    view.weights = sim.output(DType::f32, {tokens, top_k}, "weights");
    view.tiles = sim.output(DType::i32, {rows, 4}, "tiles");
  }
  inferd::testing::HostPlan host() {
    const auto fetch = [&](const Tensor& tensor) {
      return sim.get<std::int32_t>(tensor.data, static_cast<std::size_t>(tensor.elements()));
    };
    inferd::testing::HostPlan plan;
    plan.starts = fetch(view.starts);
    plan.counts = fetch(view.counts);
    plan.tokens = fetch(view.tokens);
    plan.experts = fetch(view.experts);
    plan.places = fetch(view.places);
    plan.weights = sim.get<float>(view.weights.data, plan.experts.size());
    return plan;
  }
  SimLauncher& sim;
  ExpertPlan view;
};

}  // namespace inferd::cuda::test
