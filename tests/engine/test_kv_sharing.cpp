// Prefix sharing as far as the model allows it: variants keep apart, models that do not share never do.
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

/// The sim model with a prompt_traits of the test's choice.
class SharingModel final : public Model {
 public:
  using Rule = PromptTraits (*)(std::span<const TokenId> prompt);
  SharingModel(std::unique_ptr<Model> inner, Rule rule) : inner_(std::move(inner)), rule_(rule) {}
  const ModelInfo& info() const override { return inner_->info(); }
  KvSpec kv_spec() const override { return inner_->kv_spec(); }
  PromptTraits prompt_traits(std::span<const TokenId> prompt) const override { return rule_(prompt); }
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& rows,
                 const LayerHook& hook) override {
    return inner_->forward(batch, kv, rows, hook);
  }

 private:
  std::unique_ptr<Model> inner_;
  Rule rule_;
};

struct SharingCore {
  explicit SharingCore(SharingModel::Rule rule)
      : core(std::make_unique<SharingModel>(make_sim_model(small_sim(), &clock), rule), backend, small_options(64),
             clock) {}
  /// Runs the request to its end. Returns how many of its prompt's tokens came from the cache.
  std::int64_t cached(const Request& request) {
    auto result = core.submit(request);
    REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
    const auto stream = std::get<std::shared_ptr<TokenStream>>(result);
    while (core.size() > 0) {
      core.step();
      core.check_integrity();
    }
    Answer answer;
    drain(*stream, &answer);
    CHECK(answer.tokens == answer_alone(small_sim(), request, 256).tokens);
    return stream->stats().cached_tokens;
  }
  SimBackend backend;
  VirtualClock clock;
  EngineCore core;
};

TEST_CASE("prompts of different variants share no block, those of one variant do") {
  // A base that grows with the prompt's length, as dynamic NTK scaling has it.
  SharingCore bench(
      [](std::span<const TokenId> prompt) { return PromptTraits{.kv_variant = prompt.size() > 64 ? 2u : 1u}; });
  CHECK(bench.cached(make_request(64, 4)) == 0);
  CHECK(bench.cached(make_request(64, 4)) == 48);
  CHECK(bench.cached(make_request(80, 4)) == 0);
  CHECK(bench.cached(make_request(80, 4)) == 64);
  CHECK(bench.cached(make_request(50, 4)) == 48);
}

TEST_CASE("a model whose context attends both ways shares nothing") {
  SharingCore bench([](std::span<const TokenId>) { return PromptTraits{.shares_prefix = false}; });
  CHECK(bench.cached(make_request(64, 20)) == 0);
  CHECK(bench.cached(make_request(64, 20)) == 0);
  CHECK(bench.core.stats().kv_blocks_used == 0);
}

}  // namespace
}  // namespace inferd
