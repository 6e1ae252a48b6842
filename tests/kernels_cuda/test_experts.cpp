// Products of mixtures of experts on the PTX interpreter, of every format.
#include "kernels/cuda/experts.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/expert_plan.h"
#include "tests/kernels_cuda/mma_layer.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::HostPlan;

namespace {

/// Tokens that experts of one format compute: grouped, against fp64 of the rows as they are rounded.
struct Mixture {
  static constexpr std::int64_t kExperts = 4, kTopK = 2;

  Mixture(int arch, DType dtype, std::int64_t row_count, std::int64_t columns, std::int64_t token_count, bool gated,
          int schedules)
      : rows(row_count),
        tokens(token_count),
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
  }

  /// Rows of the product, -7 where nothing is written.
  std::vector<float> run(Epilogue epilogue) {
    const std::int64_t all = plan.view.tokens.dim(0), columns = is_gated(epilogue) ? rows / 2 : rows;
    ExpertLinearArgs args;
    args.x = gathered;
    args.plan = &plan.view;
    args.group = group.get();
    args.epilogue = epilogue;
    args.out =
        sim.put(std::vector<float>(static_cast<std::size_t>(all * columns), -7.0f), DType::f32, {all, columns}, "out");
    expert_linear(sim, args);
    return sim.get<float>(args.out.data, static_cast<std::size_t>(all * columns));
  }

  /// What expert e's weight gives for all tokens.
  Product expected(std::size_t e, Epilogue epilogue) {
    std::vector<float> w = stored[2 * e].widened();
    const std::vector<float> second = stored[2 * e + 1].widened();
    w.insert(w.end(), second.begin(), second.end());
    const CudaWeight& weight = *weights[e];
    const Product product =
        multiply(w, values_of(sim, normed->view, weight.parts()[0].form), static_cast<std::size_t>(weight.columns()));
    EpilogueReference reference;
    if (is_gated(epilogue)) {
      reference.function = ActivationFunction::silu;
      reference.gated = true;
    }
    return reference(product, static_cast<std::size_t>(rows));
  }

  std::int64_t rows, tokens;
  SimLauncher sim;
  SimPlan plan;
  HostPlan chosen;
  std::vector<inferd::testing::StoredMatrix> stored;
  std::vector<std::unique_ptr<CudaWeight>> weights;
  std::vector<const Weight*> views;
  std::unique_ptr<CudaExpertGroup> group;
  std::unique_ptr<SimActivation> normed;
  Activation gathered;
};

std::string wrong_product(Mixture& mixture, Epilogue epilogue) {
  const std::vector<float> out = mixture.run(epilogue);
  const std::size_t columns = out.size() / mixture.chosen.tokens.size();
  std::vector<bool> written(mixture.chosen.tokens.size());
  for (std::size_t e = 0; e < mixture.weights.size(); ++e) {
    const Product expected = mixture.expected(e, epilogue);
    for (std::int32_t i = 0; i < mixture.chosen.counts[e]; ++i) {
      const auto row = static_cast<std::size_t>(mixture.chosen.starts[e] + i);
      const auto token = static_cast<std::size_t>(mixture.chosen.tokens[row]);
      written[row] = true;
      for (std::size_t c = 0; c < columns; ++c) {
        const double off = std::fabs(double{out[row * columns + c]} - expected.sums[token * columns + c]);
        if (!(off <= expected.error[token * columns + c])) {
          return "expert " + std::to_string(e) + ", token " + std::to_string(token) + ", column " + std::to_string(c);
        }
      }
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!written[i / columns] && out[i] != -7.0f) return "gap " + std::to_string(i / columns);
  }
  return "";
}

}  // namespace

TEST_CASE("every format's experts are multiplied as their widened weights are") {
  for (const DType dtype : kMmaTypes) {
    for (const int arch : built_archs()) {
      if ((dtype == DType::bf16 && arch < 80) || dtype == DType::g3_32) continue;  // the latter has no kernel
      // 5 and 20 tokens, two experts each: tiles of 8 rows, then of 32.
      for (const std::int64_t tokens : {5, 20}) {
        CAPTURE(arch, dtype_info(dtype).name, tokens);
        const bool narrow = tokens == 5;
        Mixture mixture(arch, dtype, 38, 1280, tokens, false, 1);
        REQUIRE(expert_tile(mixture.plan.view) == (narrow ? 0 : 2));
        REQUIRE(wrong_product(mixture, Epilogue::none) == "");
      }
    }
  }
}

TEST_CASE("gated experts, under every schedule, and the same bits as one expert alone") {
  for (const DType dtype : {DType::f16, DType::q4_k}) {
    for (const int arch : built_archs()) {
      for (const std::int64_t tokens : {9, 40}) {
        CAPTURE(arch, dtype_info(dtype).name, tokens);
        Mixture mixture(arch, dtype, 40, 3840, tokens, true, 2);
        REQUIRE(wrong_product(mixture, Epilogue::silu_gated) == "");
        const std::vector<float> out = mixture.run(Epilogue::silu_gated);
        for (std::size_t e = 0; e < Mixture::kExperts; ++e) {
          LinearArgs args;
          args.x = mixture.normed->view;
          args.num_tokens = tokens;
          args.weight = mixture.views[e];
          args.epilogue = Epilogue::silu_gated;
          args.out = mixture.sim.output(DType::f32, {tokens, 20}, "alone");
          linear(mixture.sim, args);
          const auto alone = mixture.sim.get<float>(args.out.data, static_cast<std::size_t>(tokens) * 20);
          for (std::int32_t i = 0; i < mixture.chosen.counts[e]; ++i) {
            const auto row = static_cast<std::size_t>(mixture.chosen.starts[e] + i);
            const auto token = static_cast<std::size_t>(mixture.chosen.tokens[row]);
            REQUIRE(std::memcmp(&out[row * 20], &alone[token * 20], 20 * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("experts that differ, or that tensor cores do not read, make no group") {
  SimLauncher sim(built_archs().back());
  SimWeightMemory memory(sim);
  const inferd::testing::StoredMatrix small(DType::q4_0, 32, 256, 1), large(DType::q4_0, 48, 256, 2),
      wide(DType::f32, 32, 256, 3), rare(DType::g3_32, 32, 256, 4);
  const CudaWeight a = sim_weight(sim, {small.source()}), b = sim_weight(sim, {large.source()}),
                   c = sim_weight(sim, {wide.source()}), d = sim_weight(sim, {rare.source()});
  CHECK(group_experts(std::vector<const Weight*>{&a, &b}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&c, &c}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&d, &d}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&a, &a}, memory) != nullptr);
}

TEST_CASE("the kernels of mixtures were run whole") {
  for (const Kernel kernel :
       {Kernel::experts_f16_8, Kernel::experts_f16_32, Kernel::experts_q4_k_8, Kernel::experts_q4_k_32}) {
    CHECK(uncovered(kernel) == "");
  }
}
