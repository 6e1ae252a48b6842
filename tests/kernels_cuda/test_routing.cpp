// Routing of mixtures of experts on the PTX interpreter, rows on their way to experts, and the sums of what comes back.
#include "kernels/cuda/linear_mma.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/expert_plan.h"
#include "tests/kernels_cuda/linear_reference.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::HostPlan;

namespace {

struct RouteCase {
  int tokens, experts, top_k;
  enum { many, equal, two } logits = many;  // different values, few different ones, or two experts far above the others
  bool normalize = false;
};

std::vector<float> logits_of(const RouteCase& at) {
  const auto experts = static_cast<std::size_t>(at.experts), tokens = static_cast<std::size_t>(at.tokens);
  std::vector<float> logits = inferd::testing::router_logits(tokens * experts, at.logits == RouteCase::equal, 7);
  for (std::size_t t = 0; t < tokens && at.logits == RouteCase::two; ++t) {
    logits[t * experts + 3] += 20.0f;
    logits[(t + 1) * experts - 5] += 20.0f;
  }
  return logits;
}

/// The plan's tiles, as many as any choice of experts may need: they cover each expert's rows.
bool has_its_tiles(SimPlan& plan, const HostPlan& chosen) {
  const auto all = static_cast<std::size_t>(plan.view.tiles.dim(0)), experts = chosen.starts.size();
  const std::size_t rows = expert_tile(plan.view) == 0 ? 8 : 32, picks = chosen.places.size();
  std::vector<std::int32_t> expected;
  for (std::size_t e = 0; e < experts; ++e) {
    const std::int32_t end = chosen.starts[e] + chosen.counts[e];
    for (std::int32_t row = chosen.starts[e]; row < end; row += static_cast<std::int32_t>(rows)) {
      expected.insert(expected.end(), {static_cast<std::int32_t>(e), row, end, 0});
    }
  }
  const std::size_t most = std::min(picks, experts) + picks / rows;
  while (expected.size() < 4 * most) expected.insert(expected.end(), {-1, 0, 0, 0});
  expected.resize(4 * all, -1);  // as it was
  return plan.sim.get<std::int32_t>(plan.view.tiles.data, 4 * all) == expected;
}

void check_route(int arch, const RouteCase& at, int schedules) {
  CAPTURE(arch, at.tokens, at.experts, at.top_k, at.normalize, int{at.logits});
  SimLauncher sim(arch, 0, schedules);
  const auto experts = static_cast<std::size_t>(at.experts), stride = experts + 3;
  const std::vector<float> logits = logits_of(at);
  std::vector<float> strided(static_cast<std::size_t>(at.tokens) * stride - 3, NAN);  // memory ends with the last logit
  for (std::size_t i = 0; i < logits.size(); ++i) strided[i / experts * stride + i % experts] = logits[i];
  SimPlan plan(sim, at.tokens, at.top_k, at.experts);
  RouteArgs args;
  args.logits = sim.put(strided, DType::f32, {at.tokens, at.experts}, "logits");
  args.logits.row_stride = at.experts + 3;
  args.normalize = at.normalize;
  args.plan = plan.view;
  route(sim, args);
  const HostPlan chosen = plan.host();
  const auto expected =
      inferd::testing::route_reference(logits, experts, static_cast<std::size_t>(at.top_k), at.normalize);
  HOLDS(std::string(chosen.wrong(expected, 1e-6)).empty());
  HOLDS(has_its_tiles(plan, chosen));
}

const RouteCase kRoutes[] = {{1, 1, 1, RouteCase::equal},
                             {1, 8, 2},
                             {5, 8, 8, RouteCase::equal},
                             {8, 8, 8, RouteCase::many, true},  // whole tiles of 8 rows
                             {7, 31, 3},
                             {9, 32, 4, RouteCase::equal, true},
                             {17, 33, 32, RouteCase::many, true},
                             {13, 128, 8, RouteCase::equal},
                             {70, 60, 4, RouteCase::many, true}};
const RouteCase kWideRoutes[] = {{4, 1024, 32, RouteCase::many, true},
                                 {131, 6, 2, RouteCase::equal},
                                 {64, 2, 2},                       // whole tiles of 32
                                 {264, 128, 2, RouteCase::two},    // more tiles of an expert than a warp has lanes
                                 {512, 1024, 2, RouteCase::two}};  // and more of none than the block has threads

/// Each lane of route_tokens holds an expert of every 32, the last of them perhaps behind the last expert.
RouteCase of_experts(int thirty_twos) {
  const int experts = 32 * thirty_twos + 5 + thirty_twos % 23;
  return {1 + thirty_twos % 2, experts, std::min(experts, 32), RouteCase::many, thirty_twos % 3 == 0};
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
  // Shared rows are large, so that what their gate makes of them shows.
  const std::vector<float> shared = normals(kTokens * static_cast<std::size_t>(columns), 2, 1000.0f),
                           before = random_rows(kTokens, columns, 4), gate = normals(kTokens, 3, 6.0f);
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

/// One plane of the gathered rows: `rows` are copies, others, the one behind them among them, are as they were.
void check_plane(SimLauncher& sim, const void* got, const void* had, const std::vector<std::int32_t>& rows,
                 std::size_t row_bytes) {
  if (got == nullptr) return;
  for (std::size_t i = 0; i <= rows.size(); ++i) {
    std::vector<std::uint8_t> expected(row_bytes, 0xff);
    if (i < rows.size() && rows[i] >= 0) {
      expected = sim.get<std::uint8_t>(
          static_cast<const std::byte*>(had) + static_cast<std::size_t>(rows[i]) * row_bytes, row_bytes);
    }
    HOLDS(sim.get<std::uint8_t>(static_cast<const std::byte*>(got) + i * row_bytes, row_bytes) == expected);
  }
}

void check_gather(int arch, std::uint32_t forms, std::int64_t columns, int schedules) {
  CAPTURE(arch, forms, columns);
  SimLauncher sim(arch, 0, schedules);
  const SimActivation from(sim, random_rows(5, columns, 3), 5, columns, forms);
  const std::vector<std::int32_t> rows = {4, -1, 0, 4, 2};
  Activation to = from.view;
  to.rows = 6;
  std::size_t bytes = 0;
  activation_planes(nullptr, to.rows, columns, forms, &bytes);
  to.data = sim.allocate(bytes, "gathered", true);
  gather_activation(sim, {from.view, sim.put(rows, DType::i32, {5}, "rows"), to});
  const ActivationPlanes out = activation_planes(to.data, to.rows, columns, forms);
  const auto stride = static_cast<std::size_t>(out.stride);
  check_plane(sim, out.f32, from.planes.f32, rows, 4 * stride);
  check_plane(sim, out.bf16, from.planes.bf16, rows, 2 * stride);
  check_plane(sim, out.f16, from.planes.f16, rows, 2 * stride);
  check_plane(sim, out.f16_scale, from.planes.f16_scale, rows, 4);
  check_plane(sim, out.f16_sums, from.planes.f16_sums, rows, stride / 4);
  check_plane(sim, out.int8, from.planes.int8, rows, stride);
  check_plane(sim, out.int8_scale, from.planes.int8_scale, rows, 4);
}

}  // namespace

TEST_CASE("tokens are sent to their experts") {
  for (const int arch : built_archs()) {
    for (const RouteCase& at : kRoutes) {
      check_route(arch, at, 6);
      check_route(arch,
                  {at.tokens, at.experts, at.top_k, at.logits == RouteCase::many ? RouteCase::equal : RouteCase::many,
                   !at.normalize},
                  6);
    }
    for (const RouteCase& at : kWideRoutes) check_route(arch, at, 2);
    for (int n = 0; n < 32; ++n) check_route(arch, of_experts(n), 1);
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
      check_gather(arch, forms, 8250, 1);
    }
  }
}

TEST_CASE("what experts give is added by weight, and the shared expert by its gate") {
  for (const int arch : built_archs()) {
    for (const int columns : {1, 255, 257, 600}) {
      for (const bool with_shared : {false, true}) check_combine(arch, columns, with_shared, 6);
    }
  }
}

TEST_CASE("the kernels of routing were run whole") {
  for (const Kernel kernel :
       {Kernel::route_tokens, Kernel::route_rows, Kernel::gather_activation, Kernel::combine_experts}) {
    CHECK(uncovered(kernel) == "");
  }
}

TEST_CASE("faults in the kernels of routing are noticed") {
  const auto routes = [] {
    for (const RouteCase& at : kRoutes) check_route(mutant_arch(), at, 3);  // and the last warps first
    for (int n = 0; n < 32; ++n) check_route(mutant_arch(), of_experts(n), 1);
    for (const RouteCase& at : kWideRoutes) check_route(mutant_arch(), at, 1);
    return true;
  };
  const auto gathers = [] {
    for (const std::uint32_t forms : {kF32Form | kF16Form, kBf16Form | kInt8Form}) {
      for (const std::int64_t columns : {30, 576, 1100, 8250}) check_gather(mutant_arch(), forms, columns, 1);
    }
    return true;
  };
  const auto combines = [] {
    for (const int columns : {255, 600}) {
      for (const bool with_shared : {false, true}) check_combine(mutant_arch(), columns, with_shared, 1);
    }
    return true;
  };
  CHECK(unlisted_mutants("routing", {{Kernel::route_tokens, routes},
                                     {Kernel::route_rows, routes},
                                     {Kernel::gather_activation, gathers},
                                     {Kernel::combine_experts, combines}}) == "");
}
