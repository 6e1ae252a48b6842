// Mixtures of experts on the PTX interpreter: routing, rows on their way, every format's products, and their sums.
#include "kernels/cuda/dev/experts_params.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/linear_mma.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mixture.h"
#include "tests/kernels_cuda/mma_layer.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;

namespace {

struct RouteCase {
  int tokens, experts, top_k;
};

void check_route(int arch, const RouteCase& at, bool normalize, bool ties, int schedules) {
  CAPTURE(arch, at.tokens, at.experts, at.top_k, normalize, ties);
  SimLauncher sim(arch, 0, schedules);
  const auto experts = static_cast<std::size_t>(at.experts), tokens = static_cast<std::size_t>(at.tokens);
  const std::vector<float> logits = inferd::testing::router_logits(tokens * experts, ties, 7);
  std::vector<float> strided(tokens * (experts + 3), NAN);
  for (std::size_t i = 0; i < logits.size(); ++i) strided[i / experts * (experts + 3) + i % experts] = logits[i];
  SimPlan plan(sim, at.tokens, at.top_k, at.experts);
  RouteArgs args;
  args.logits = sim.put(strided, DType::f32, {at.tokens, at.experts}, "logits");
  args.logits.row_stride = at.experts + 3;
  args.normalize = normalize;
  args.plan = plan.view;
  route(sim, args);
  const auto expected =
      inferd::testing::route_reference(logits, experts, static_cast<std::size_t>(at.top_k), normalize);
  HOLDS(std::string(plan.host().wrong(expected, 4e-6)).empty());
}

const RouteCase kRoutes[] = {{1, 1, 1},    {1, 8, 2},   {5, 8, 8},    {7, 31, 3},    {9, 32, 4},
                             {17, 33, 32}, {70, 60, 4}, {13, 128, 8}, {2, 1024, 10}, {131, 6, 2}};

std::string wrong_product(Mixture& mixture) {
  const Product expected = mixture.expected();
  return first_difference(mixture.run(), expected.sums, expected.error, 1);
}

void check_combine(int arch, int columns, bool with_shared, int schedules) {
  CAPTURE(arch, columns, with_shared);
  constexpr std::int64_t kTokens = 5, kExperts = 6, kTopK = 3;
  SimLauncher sim(arch, 0, schedules);
  SimPlan plan(sim, kTokens, kTopK, kExperts);
  RouteArgs route_args;
  route_args.logits =
      sim.put(inferd::testing::router_logits(kTokens * kExperts, false, 9), DType::f32, {kTokens, kExperts}, "logits");
  route_args.plan = plan.view;
  route(sim, route_args);
  const HostPlan chosen = plan.host();
  const std::int64_t rows = plan.view.tokens.dim(0);
  std::vector<float> product = random_rows(rows, columns, 1);
  for (std::size_t row = 0; row < chosen.tokens.size(); ++row) {
    if (chosen.tokens[row] < 0) std::fill_n(product.begin() + static_cast<std::int64_t>(row) * columns, columns, NAN);
  }
  const std::vector<float> shared = random_rows(kTokens, columns, 2), before = random_rows(kTokens, columns, 4),
                           gate = random_rows(kTokens, 1, 3);
  CombineExpertsArgs args;
  args.product = sim.put(product, DType::f32, {rows, columns}, "product");
  args.plan = &plan.view;
  if (with_shared) {
    args.shared = sim.put(shared, DType::f32, {kTokens, columns}, "shared");
    args.gate = sim.put(gate, DType::f32, {kTokens, 1}, "gate");
  }
  args.x = sim.put(before, DType::f32, {kTokens, columns}, "x");
  combine_experts(sim, args);
  const std::vector<float> x = sim.get<float>(args.x.data, before.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t t = i / static_cast<std::size_t>(columns), c = i % static_cast<std::size_t>(columns);
    double expected = double{before[i]}, size = std::fabs(expected);
    const auto add = [&](double term) {
      expected += term;
      size += std::fabs(term);
    };
    for (std::size_t k = t * kTopK; k < (t + 1) * kTopK; ++k) {
      const auto row = static_cast<std::size_t>(chosen.places[k]);
      add(double{chosen.weights[k]} * double{product[row * static_cast<std::size_t>(columns) + c]});
    }
    if (with_shared) add(double{shared[i]} / (1 + std::exp(-double{gate[t]})));
    HOLDS(std::fabs(double{x[i]} - expected) <= 1e-6 * size);
  }
}

void check_gather(int arch, std::uint32_t forms, std::int64_t columns, int schedules) {
  CAPTURE(arch, forms, columns);
  SimLauncher sim(arch, 0, schedules);
  const SimActivation from(sim, random_rows(5, columns, 3), 5, columns, forms);
  const std::vector<std::int32_t> rows = {4, -1, 0, 4, 2};
  Activation to = from.view;
  std::size_t bytes = 0;
  activation_planes(nullptr, 5, columns, forms, &bytes);
  to.data = sim.allocate(bytes, "gathered", true);
  gather_activation(sim, {from.view, sim.put(rows, DType::i32, {5}, "rows"), to});
  const ActivationPlanes out = activation_planes(to.data, 5, columns, forms);
  const auto stride = static_cast<std::size_t>(out.stride);
  const auto check = [&](const void* got, const void* had, std::size_t row_bytes) {
    if (got == nullptr) return;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i] < 0) continue;
      const auto* at = static_cast<const std::byte*>(got) + i * row_bytes;
      const auto* of = static_cast<const std::byte*>(had) + static_cast<std::size_t>(rows[i]) * row_bytes;
      HOLDS(sim.get<std::uint8_t>(at, row_bytes) == sim.get<std::uint8_t>(of, row_bytes));
    }
  };
  check(out.f32, from.planes.f32, 4 * stride);
  check(out.bf16, from.planes.bf16, 2 * stride);
  check(out.f16, from.planes.f16, 2 * stride);
  check(out.f16_scale, from.planes.f16_scale, 4);
  check(out.f16_sums, from.planes.f16_sums, stride / 4);
  check(out.int8, from.planes.int8, stride);
  check(out.int8_scale, from.planes.int8_scale, 4);
}

}  // namespace

TEST_CASE("tokens are sent to their experts") {
  for (const int arch : built_archs()) {
    for (const RouteCase& at : kRoutes) {
      for (const bool ties : {false, true}) check_route(arch, at, at.tokens % 2 == 0, ties, at.experts < 100 ? 6 : 2);
    }
    check_route(arch, kRoutes[2], true, false, 6);
    check_route(arch, kRoutes[6], false, true, 6);
  }
}

TEST_CASE("logits that are no numbers lead somewhere, and show in the weights") {
  for (const int arch : built_archs()) {
    SimLauncher sim(arch);
    SimPlan plan(sim, 2, 2, 8);
    RouteArgs args;
    args.logits = sim.put(std::vector<float>(16, NAN), DType::f32, {2, 8}, "logits");
    args.normalize = true;
    args.plan = plan.view;
    route(sim, args);
    const HostPlan got = plan.host();
    for (const std::int32_t expert : got.experts) CHECK((expert >= 0 && expert < 8));
    for (const float weight : got.weights) CHECK(std::isnan(weight));
  }
}

TEST_CASE("rows of activations are gathered in every form") {
  for (const int arch : built_archs()) {
    for (const std::uint32_t forms : {kF32Form | kF16Form, kInt8Form | 0u, kBf16Form | kF16Form | kInt8Form}) {
      for (const std::int64_t columns : {30, 576, 1100}) check_gather(arch, forms, columns, 6);
    }
  }
}

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
        REQUIRE(wrong_product(mixture) == "");
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
        REQUIRE(wrong_product(mixture) == "");
        const std::vector<float> out = mixture.run();
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

TEST_CASE("what experts give is added by weight, and the shared expert by its gate") {
  for (const int arch : built_archs()) {
    for (const int columns : {1, 255, 257, 600}) {
      for (const bool with_shared : {false, true}) check_combine(arch, columns, with_shared, 6);
    }
  }
}

TEST_CASE("the kernels of mixtures were run whole") {
  for (const Kernel kernel :
       {Kernel::route_tokens, Kernel::route_rows, Kernel::gather_activation, Kernel::combine_experts,
        Kernel::experts_f16_8, Kernel::experts_f16_32, Kernel::experts_q4_k_8, Kernel::experts_q4_k_32}) {
    CHECK(uncovered(kernel) == "");
  }
}

TEST_CASE("faults in the kernels of mixtures are noticed", "[.mutants]") {
  const auto routes = [] {
    for (const RouteCase& at : {kRoutes[2], kRoutes[3], kRoutes[5], kRoutes[6]}) {
      check_route(mutant_arch(), at, at.tokens % 2 == 0, at.experts == 8, 1);
    }
    return true;
  };
  const auto gathers = [] {
    for (const std::uint32_t forms : {kF32Form | kF16Form, kBf16Form | kInt8Form})
      check_gather(mutant_arch(), forms, 1100, 1);
    return true;
  };
  const auto combines = [] {
    for (const bool with_shared : {false, true}) check_combine(mutant_arch(), 600, with_shared, 1);
    return true;
  };
  CHECK(unlisted_mutants("experts", {{Kernel::route_tokens, routes},
                                     {Kernel::route_rows, routes},
                                     {Kernel::gather_activation, gathers},
                                     {Kernel::combine_experts, combines}}) == "");
}
