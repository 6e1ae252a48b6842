// EncoderCore: batches by length, results independent of batching, cancels, refusals.
#include <numeric>

#include "engine/encoder_core.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

struct EncoderBench {
  explicit EncoderBench(SimOptions with = {}) : sim(with), core(make_sim_encoder(with, &clock), backend, 500) {}
  std::shared_ptr<EncodeJob> add(const std::vector<std::vector<TokenId>>& inputs) {
    REQUIRE_FALSE(core.check(encode_inputs(inputs)).has_value());
    auto job = std::make_shared<EncodeJob>(encode_inputs(inputs));
    core.add(job);
    return job;
  }
  int run() {
    int batches = 0;
    while (core.step([](int) {})) ++batches;
    return batches;
  }
  SimBackend backend;
  VirtualClock clock;
  SimOptions sim;
  EncoderCore core;
};

std::vector<TokenId> input_of(std::int64_t length, TokenId first) {
  std::vector<TokenId> input(static_cast<std::size_t>(length));
  std::iota(input.begin(), input.end(), first);
  return input;
}

TEST_CASE("every input gets the vector it would get alone, in order") {
  SimOptions sim;
  sim.max_batch_tokens = 50;
  EncoderBench bench(sim);
  std::vector<std::vector<TokenId>> inputs;
  for (int i = 0; i < 100; ++i) inputs.push_back(input_of(1 + (i * 17) % 50, i));
  const auto job = bench.add(inputs);
  const auto second = bench.add({input_of(50, 3)});
  const int batches = bench.run();
  CHECK(batches >= 51);
  CHECK(batches < 101);
  REQUIRE(job->wait(std::chrono::milliseconds(0)));
  const auto results = job->take();
  REQUIRE(results.size() == 100);
  for (std::size_t i = 0; i < results.size(); ++i) {
    CHECK(results[i].ok);
    CHECK(results[i].reason == FinishReason::stop);
    CHECK(results[i].vector == sim_embedding(sim, inputs[i]));
  }
  CHECK(second->take().at(0).vector == sim_embedding(sim, input_of(50, 3)));
}

TEST_CASE("the oldest input is in every batch, and similar lengths go with it") {
  SimOptions sim;
  sim.max_batch_tokens = 32;
  EncoderBench bench(sim);
  const auto first = bench.add({input_of(10, 0)});
  const auto far = bench.add({input_of(22, 0)});
  const auto near = bench.add({input_of(11, 0), input_of(9, 0)});
  REQUIRE(bench.core.step([](int) {}));
  CHECK(first->wait(std::chrono::milliseconds(0)));
  CHECK(near->wait(std::chrono::milliseconds(0)));
  CHECK_FALSE(far->wait(std::chrono::milliseconds(0)));
  REQUIRE(bench.core.step([](int) {}));
  CHECK(far->wait(std::chrono::milliseconds(0)));
  CHECK_FALSE(bench.core.step([](int) {}));
}

TEST_CASE("cancelled inputs are dropped before and during a batch") {
  SimOptions sim;
  sim.layers = 8;
  EncoderBench bench(sim);
  const auto waiting = bench.add({input_of(5, 0), input_of(6, 0)});
  waiting->cancel();
  CHECK_FALSE(bench.core.step([](int) {}));
  REQUIRE(waiting->wait(std::chrono::milliseconds(0)));
  for (const auto& result : waiting->take()) {
    CHECK_FALSE(result.ok);
    CHECK(result.reason == FinishReason::cancelled);
  }
  const auto running = bench.add({input_of(5, 0)});
  int layers = 0;
  CHECK(bench.core.step([&](int layer) {
    ++layers;
    if (layer == 2) running->cancel();
  }));
  CHECK(layers == 3);
  REQUIRE(running->wait(std::chrono::milliseconds(0)));
  CHECK(running->take().at(0).reason == FinishReason::cancelled);
}

TEST_CASE("NaN in one vector is an error of that input alone") {
  SimOptions sim;
  sim.poison_token = 200;
  EncoderBench bench(sim);
  const auto job = bench.add({input_of(5, 0), {1, 200, 3}, input_of(4, 9)});
  bench.run();
  const auto results = job->take();
  CHECK(results[0].ok);
  CHECK_FALSE(results[1].ok);
  CHECK(results[1].reason == FinishReason::error);
  CHECK(results[2].ok);
}

TEST_CASE("inputs that cannot be served are refused") {
  SimOptions sim;
  sim.max_batch_tokens = 64;
  sim.max_context = 40;
  EncoderBench bench(sim);
  CHECK(bench.core.max_input_tokens() == 40);
  CHECK(bench.core.check(encode_inputs({{}}))->kind == Rejection::Kind::bad_token);
  CHECK(bench.core.check(encode_inputs({{1, 512}}))->kind == Rejection::Kind::bad_token);
  CHECK(bench.core.check(encode_inputs({{1, -1}}))->kind == Rejection::Kind::bad_token);
  const auto long_input = bench.core.check(encode_inputs({input_of(41, 0)}));
  CHECK(long_input->kind == Rejection::Kind::prompt_too_long);
  CHECK(long_input->limit == 40);
  CHECK(bench.core.check(encode_inputs(std::vector<std::vector<TokenId>>(501, {1})))->kind ==
        Rejection::Kind::never_fits);
  CHECK_FALSE(bench.core.check(encode_inputs({input_of(40, 0)})).has_value());
}

TEST_CASE("finish_all ends what waits") {
  EncoderBench bench;
  const auto job = bench.add({input_of(5, 0), input_of(5, 1)});
  bench.core.finish_all(FinishReason::shutdown);
  REQUIRE(job->wait(std::chrono::milliseconds(0)));
  CHECK(job->take().at(1).reason == FinishReason::shutdown);
  CHECK(bench.core.size() == 0);
}

}  // namespace
}  // namespace inferd
