// Mixtures of experts on the CPU: routing, the experts' products and their sums, on every level.
#include "tests/catch.h"
#include "tests/kernels/expert_reference.h"
#include "tests/kernels/linear_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

/// Memory of a plan, and views of it.
struct Plan {
  Plan(std::int64_t token_count, std::int64_t top_k, std::int64_t expert_count) {
    const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
    const std::int64_t rows = expert_rows(token_count, top_k, expert_count);
    host.starts.assign(size(expert_count), 99);
    host.counts.assign(size(expert_count), 99);
    host.tokens.assign(size(rows), 99);
    host.experts.assign(size(token_count * top_k), 99);
    host.places.assign(size(token_count * top_k), 99);
    host.weights.assign(size(token_count * top_k), NAN);
    view.starts = Tensor(host.starts.data(), DType::i32, {expert_count});
    view.counts = Tensor(host.counts.data(), DType::i32, {expert_count});
    view.tokens = Tensor(host.tokens.data(), DType::i32, {rows});
    view.experts = Tensor(host.experts.data(), DType::i32, {token_count, top_k});
    view.places = Tensor(host.places.data(), DType::i32, {token_count, top_k});
    view.weights = Tensor(host.weights.data(), DType::f32, {token_count, top_k});
  }
  HostPlan host;
  ExpertPlan view;
};

}  // namespace

TEST_CASE("tokens go to the experts with the largest logits, rows stand by expert") {
  const auto backend = cpu("portable", 3);
  for (const auto& [tokens, experts, top_k] :
       {std::array{1, 1, 1}, {1, 8, 2}, {5, 8, 8}, {33, 60, 4}, {70, 128, 8}, {3, 1024, 32}, {200, 6, 1}}) {
    for (const bool normalize : {false, true}) {
      for (const bool ties : {false, true}) {
        CAPTURE(tokens, experts, top_k, normalize, ties);
        std::vector<float> logits = router_logits(static_cast<std::size_t>(tokens * experts), ties, 7);
        Plan plan(tokens, top_k, experts);
        backend->route({.logits = rows_of(logits, tokens, experts), .normalize = normalize, .plan = plan.view});
        const auto expected =
            route_reference(logits, static_cast<std::size_t>(experts), static_cast<std::size_t>(top_k), normalize);
        CHECK(std::string(plan.host.wrong(expected, 2e-6)).empty());
      }
    }
  }
}

TEST_CASE("logits that are no numbers lead somewhere, and show in the weights") {
  const auto backend = cpu("portable", 1);
  std::vector<float> logits(16, NAN);
  Plan plan(2, 2, 8);
  backend->route({.logits = rows_of(logits, 2, 8), .normalize = true, .plan = plan.view});
  for (const std::int32_t expert : plan.host.experts) CHECK((expert >= 0 && expert < 8));
  for (const float weight : plan.host.weights) CHECK(std::isnan(weight));
}

TEST_CASE("experts at once give what each gives alone, bit for bit") {
  constexpr std::int64_t kTokens = 41, kExperts = 7, kTopK = 3, kColumns = 512;
  const std::vector<float> logits = router_logits(kTokens * kExperts, false, 3);
  std::vector<float> x = random_rows(kTokens, kColumns, 11);
  for (const DType dtype : kLinearTypes) {
    for (const std::string& isa : available_levels()) {
      for (const bool gated : {false, true}) {
        CAPTURE(dtype_info(dtype).name, isa, gated);
        const auto backend = cpu(isa, 2);
        backend->reserve_workspace(256, kColumns);
        std::vector<std::unique_ptr<Weight>> weights;
        std::vector<const Weight*> views;
        for (std::uint32_t e = 0; e < kExperts; ++e) {
          const StoredMatrix first(dtype, 40, kColumns, 2 * e), second(dtype, 40, kColumns, 2 * e + 1);
          const std::vector<WeightSource> sources = {first.source(), second.source()};
          weights.push_back(backend->load_weight(sources, {.gated = gated}));
          views.push_back(weights.back().get());
        }
        const auto group = backend->group_experts(views);
        REQUIRE(group != nullptr);
        Plan plan(kTokens, kTopK, kExperts);
        std::vector<float> copy = logits;
        backend->route({.logits = rows_of(copy, kTokens, kExperts), .plan = plan.view});
        const std::int64_t rows = plan.view.tokens.dim(0), columns = gated ? 40 : 80;
        PoisonedActivation normed(*backend, kTokens + 2, kColumns, views[0]->activation_forms());
        PoisonedActivation gathered(*backend, rows, kColumns, views[0]->activation_forms());
        backend->to_activation({.x = rows_of(x, kTokens, kColumns), .out = normed.view});
        backend->gather_activation({.x = normed.view, .rows = plan.view.tokens, .out = gathered.view});
        std::vector<float> out(static_cast<std::size_t>(rows * columns), -7.0f);
        const Epilogue epilogue = gated ? Epilogue::silu_gated : Epilogue::none;
        backend->expert_linear({.x = gathered.view,
                                .plan = &plan.view,
                                .group = group.get(),
                                .epilogue = epilogue,
                                .out = rows_of(out, rows, columns)});
        for (std::size_t e = 0; e < kExperts; ++e) {
          const std::vector<float> alone = run_linear(*backend, *views[e], x, kTokens, {.epilogue = epilogue});
          for (std::int32_t i = 0; i < plan.host.counts[e]; ++i) {
            const std::int64_t row = plan.host.starts[e] + i, token = plan.host.tokens[static_cast<std::size_t>(row)];
            REQUIRE(std::memcmp(&out[static_cast<std::size_t>(row * columns)],
                                &alone[static_cast<std::size_t>(token * columns)],
                                static_cast<std::size_t>(columns) * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("matrices of different shape or order of columns make no group") {
  const auto backend = cpu("portable", 1);
  const StoredMatrix a(DType::g4_128, 32, 256, 1), b(DType::g4_128, 64, 256, 2);
  const WeightSource small = a.source(), large = b.source();
  const auto first = backend->load_weight({&small, 1}, {}), second = backend->load_weight({&large, 1}, {});
  CHECK(backend->group_experts(std::vector<const Weight*>{first.get(), second.get()}) == nullptr);
  std::vector<std::int32_t> order(256);
  for (int i = 0; i < 256; ++i) order[static_cast<std::size_t>(i)] = 255 - i;
  WeightSource turned = a.source();
  turned.column_order = order.data();
  const auto third = backend->load_weight({&turned, 1}, {});
  CHECK(backend->group_experts(std::vector<const Weight*>{third.get(), third.get()}) == nullptr);
  CHECK(backend->group_experts(std::vector<const Weight*>{first.get(), first.get()}) != nullptr);
}

TEST_CASE("what experts give is added by weight, and the shared expert by its gate") {
  constexpr std::int64_t kTokens = 19, kExperts = 5, kTopK = 2, kColumns = 133;
  std::vector<float> logits = router_logits(kTokens * kExperts, false, 5);
  const auto backend = cpu("portable", 2);
  Plan plan(kTokens, kTopK, kExperts);
  backend->route({.logits = rows_of(logits, kTokens, kExperts), .plan = plan.view});
  const std::int64_t rows = plan.view.tokens.dim(0);
  std::vector<float> product = random_rows(rows, kColumns, 1), shared = random_rows(kTokens, kColumns, 2),
                     gate = random_rows(kTokens, 1, 3);
  for (std::int64_t row = 0; row < rows; ++row) {
    if (plan.host.tokens[static_cast<std::size_t>(row)] < 0) {
      std::fill_n(product.begin() + row * kColumns, kColumns, NAN);  // gaps are nobody's
    }
  }
  for (const bool with_shared : {false, true}) {
    const std::vector<float> before = random_rows(kTokens, kColumns, 4);
    std::vector<float> x = before;
    CombineExpertsArgs args{
        .product = rows_of(product, rows, kColumns), .plan = &plan.view, .x = rows_of(x, kTokens, kColumns)};
    if (with_shared) {
      args.shared = rows_of(shared, kTokens, kColumns);
      args.gate = rows_of(gate, kTokens, 1);
    }
    backend->combine_experts(args);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t t = i / kColumns, c = i % kColumns;
      double expected = double{before[i]}, size = std::fabs(expected);
      const auto add = [&](double term) {
        expected += term;
        size += std::fabs(term);
      };
      for (std::size_t k = t * kTopK; k < (t + 1) * kTopK; ++k) {
        add(double{plan.host.weights[k]} *
            double{product[static_cast<std::size_t>(plan.host.places[k]) * kColumns + c]});
      }
      if (with_shared) add(double{shared[i]} / (1 + std::exp(-double{gate[t]})));
      REQUIRE(std::fabs(double{x[i]} - expected) <= 4e-7 * size);
    }
  }
}
