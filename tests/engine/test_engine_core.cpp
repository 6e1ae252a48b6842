// EngineCore over the sim model: ends, refusals, deadlines, cancels, statistics, prompt log-probabilities.
#include <cmath>

#include "base/errors.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

Rejection rejection_of(EngineCore& core, Request request) {
  auto result = core.submit(std::move(request));
  REQUIRE(std::holds_alternative<Rejection>(result));
  return std::get<Rejection>(result);
}

TEST_CASE("one request gives the tokens of the model alone, and its statistics add up") {
  SimOptions sim = small_sim();
  sim.step_s = 0.25;
  SimCore bench(small_options(32), sim);
  const Request request = make_request(70, 30, 3);
  const auto stream = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*stream, &answer);
  const Answer alone = answer_alone(sim, request, 256);
  CHECK(answer.tokens == alone.tokens);
  CHECK(answer.reason == alone.reason);
  const StreamStats stats = stream->stats();
  CHECK(stats.prompt_tokens == 70);
  CHECK(stats.cached_tokens == 0);
  CHECK(stats.output_tokens == static_cast<std::int64_t>(answer.tokens.size()));
  CHECK(stats.queue_wait_s == Approx(0.0));
  CHECK(stats.prefill_s == Approx(0.75));  // 70 tokens in chunks of 32
  CHECK(stats.decode_s == Approx(0.25 * static_cast<double>(answer.tokens.size() - 1)));
  const DecoderStats totals = bench.core.stats();
  CHECK(totals.prompt_tokens == 70);
  CHECK(totals.output_tokens == stats.output_tokens);
  CHECK(totals.steps == 2 + stats.output_tokens);
  CHECK(totals.finished == 1);
  CHECK(totals.kv_blocks_used == 0);
  CHECK(totals.kv_blocks_total == 32);
}

TEST_CASE("a stop token ends the answer and is part of it; min_output_tokens bans it") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.999;
  SimCore bench(small_options(32), sim);
  Request request = make_request(10, 20);
  const auto early = bench.submit(request);
  request.min_output_tokens = 5;
  const auto later = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*early, &answer);
  CHECK(answer.reason == FinishReason::stop);
  CHECK(answer.tokens.back() == 47);
  CHECK(answer.tokens.size() <= 3);
  Answer second;
  drain(*later, &second);
  CHECK(second.reason == FinishReason::stop);
  CHECK(second.tokens.size() >= 6);
  CHECK(second.tokens.back() == 47);
  CHECK(std::count(second.tokens.begin(), second.tokens.begin() + 5, 47) == 0);
}

TEST_CASE("prompt + output is clamped to the context") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(32);
  options.context_length = 40;
  SimCore bench(options, sim);
  CHECK(bench.core.context_length() == 40);
  const auto stream = bench.submit(make_request(30, 1'000'000'000'000));
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::length);
  CHECK(stream->stats().output_tokens == 10);
  const auto last = bench.submit(make_request(39, 5));
  bench.run();
  CHECK(last->stats().output_tokens == 1);
  const Rejection full = rejection_of(bench.core, make_request(40, 5));
  CHECK(full.kind == Rejection::Kind::prompt_too_long);
  CHECK(full.limit == 40);
  CHECK(full.given == 40);
}

TEST_CASE("requests that cannot be served are refused at once") {
  SimCore bench(small_options(4));
  CHECK(bench.core.context_length() == 64);  // what the pool holds
  Request request = make_request(5, 5);
  request.prompt = {};
  CHECK(rejection_of(bench.core, request).kind == Rejection::Kind::bad_token);
  request.prompt = {1, 48};
  CHECK(rejection_of(bench.core, request).kind == Rejection::Kind::bad_token);
  CHECK(rejection_of(bench.core, request).given == 48);
  request.prompt = {-1};
  CHECK(rejection_of(bench.core, request).kind == Rejection::Kind::bad_token);
  request.prompt = {1};
  request.sampling.logit_bias = {{48, 1.0f}};
  CHECK(rejection_of(bench.core, request).kind == Rejection::Kind::bad_token);
  CHECK(rejection_of(bench.core, make_request(65, 5)).kind == Rejection::Kind::prompt_too_long);
  request = make_request(5, 5);
  request.stop_token_ids = {-3, 1 << 30};  // harmless
  request.min_output_tokens = 2;
  const auto stream = bench.submit(request);
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::length);
}

TEST_CASE("the queue is bounded by what runs and what may wait") {
  EngineOptions options = small_options(64);
  options.max_concurrent_requests = 2;
  options.max_queued_requests = 3;
  SimCore bench(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(bench.submit(make_request(5, 50, i)));
  const Rejection refused = rejection_of(bench.core, make_request(5, 5));
  CHECK(refused.kind == Rejection::Kind::queue_full);
  CHECK(refused.limit == 3);
  bench.core.step();
  CHECK(bench.core.stats().running == 2);
  CHECK(bench.core.stats().waiting == 3);
  streams[0]->cancel();
  bench.core.step();
  streams.push_back(bench.submit(make_request(5, 5)));
  bench.run();
}

TEST_CASE("deadlines and the longest queue wait end requests wherever they are") {
  SimOptions sim = small_sim();
  sim.step_s = 1.0;
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(64);
  options.max_concurrent_requests = 1;
  options.queue_wait_s = 30.0;
  SimCore bench(options, sim);
  Request running = make_request(5, 100);
  running.deadline = bench.clock.now() + std::chrono::seconds(50);
  Request waiting = make_request(5, 100, 2);
  waiting.deadline = bench.clock.now() + std::chrono::seconds(10);
  const auto first = bench.submit(running);
  const auto second = bench.submit(waiting);
  const auto third = bench.submit(make_request(5, 100, 3));
  bench.run();
  CHECK(first->finish_reason() == FinishReason::deadline);
  CHECK(first->stats().output_tokens == 50);
  CHECK(second->finish_reason() == FinishReason::deadline);
  CHECK(second->stats().output_tokens == 0);
  CHECK(second->stats().queue_wait_s == Approx(10.0));
  CHECK(third->finish_reason() == FinishReason::deadline);
  CHECK(third->stats().queue_wait_s == Approx(31.0));
  CHECK(bench.core.stats().queue_timeouts == 2);
}

TEST_CASE("a cancelled request leaves within one step: running, prefilling, waiting, preempted") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(10);
  options.max_concurrent_requests = 3;
  SimCore bench(options, sim);
  const auto decoding = bench.submit(make_request(8, 200, 1));
  bench.core.step();
  const auto prefilling = bench.submit(make_request(60, 20, 2));
  const auto waiting = bench.submit(make_request(100, 20, 3));
  bench.core.step();
  CHECK(bench.core.stats().running == 2);
  for (const auto& stream : {prefilling, waiting, decoding}) {
    CHECK(stream->finish_reason() == FinishReason::none);
    stream->cancel();
    bench.core.step();
    bench.core.check_integrity();
    CHECK(stream->finish_reason() == FinishReason::cancelled);
  }
  CHECK(bench.core.size() == 0);
  CHECK(bench.core.stats().kv_blocks_used == 0);
  CHECK(bench.core.stats().cancelled == 3);

  const auto oldest = bench.submit(make_request(20, 100, 4));
  const auto youngest = bench.submit(make_request(20, 100, 5));
  while (bench.core.stats().preemptions == 0) bench.core.step();
  CHECK(bench.core.stats().waiting == 1);
  youngest->cancel();
  bench.core.step();
  CHECK(youngest->finish_reason() == FinishReason::cancelled);
  CHECK(youngest->stats().output_tokens > 0);
  oldest->cancel();
  bench.run();
}

TEST_CASE("a stream nobody reads any more is as good as cancelled") {
  SimCore bench(small_options(16));
  bench.submit(make_request(5, 200));
  bench.core.step();
  CHECK(bench.core.size() == 0);
  CHECK(bench.core.stats().cancelled == 1);
}

TEST_CASE("when all of a batch are cancelled the forward stops at the next layer") {
  SimOptions sim = small_sim();
  sim.layers = 10;
  sim.step_s = 10.0;
  SimCore bench(small_options(16), sim);
  const auto a = bench.submit(make_request(5, 20));
  int layers = 0;
  bench.core.on_progress([&] {
    if (++layers == 3) a->cancel();
  });
  bench.core.step();
  CHECK(layers == 3);
  CHECK(bench.clock.now().time_since_epoch() < std::chrono::seconds(5));
  bench.core.check_integrity();
  bench.core.step();
  CHECK(a->finish_reason() == FinishReason::cancelled);
  const Request request = make_request(5, 20);
  const auto again = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*again, &answer);
  CHECK(answer.tokens == answer_alone(sim, request, 256).tokens);
}

TEST_CASE("NaN logits end that request only") {
  SimOptions sim = small_sim();
  sim.poison_token = 46;
  SimCore bench(small_options(32), sim);
  Request bad = make_request(20, 10);
  bad.prompt[7] = 46;
  Request good = make_request(20, 10, 9);
  good.sampling.logit_bias = {{46, -100.0f}};
  good.prompt = counting_prompt(20, 9, 46);
  const auto poisoned = bench.submit(bad);
  const auto healthy = bench.submit(good);
  bench.run();
  CHECK(poisoned->finish_reason() == FinishReason::error);
  CHECK(poisoned->stats().output_tokens == 0);
  Answer answer;
  drain(*healthy, &answer);
  CHECK(answer.tokens == answer_alone(sim, good, 256).tokens);
  CHECK(answer.reason != FinishReason::error);
}

TEST_CASE("a row whose every token is banned ends with stop") {
  SimCore bench(small_options(32));
  Request request = make_request(20, 10);
  for (TokenId token = 0; token < 48; ++token) request.sampling.logit_bias.emplace_back(token, -100.0f);
  const auto stream = bench.submit(request);
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::stop);
  CHECK(stream->stats().output_tokens == 0);
}

TEST_CASE("prompt_logprobs are those of the model alone, also in chunks, beside others and after a preemption") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(9);
  options.max_logit_rows = 8;
  SimCore bench(options, sim);
  const auto other = bench.submit(make_request(10, 100, 7));
  bench.core.step();
  Request request = make_request(60, 4, 2);
  request.prompt_logprobs = 3;
  request.top_logprobs = 2;
  const auto stream = bench.submit(request);
  bench.run();
  const std::vector<TokenEvent> events = stream->take_prompt_logprobs();
  REQUIRE(events.size() == 60);
  CHECK(events[0].token == request.prompt[0]);
  CHECK(events[0].top.empty());
  SimHistory history(sim);
  Sampler sampler(sim.vocab_size);
  for (std::size_t i = 1; i < events.size(); ++i) {
    history.push(request.prompt[i - 1]);
    history.logits(sampler.row());
    TokenEvent expected;
    REQUIRE(sampler.score(request.prompt[i], 3, &expected));
    CHECK(equal_events({events[i]}, {expected}));
  }
  Answer answer;
  drain(*stream, &answer);
  CHECK(equal_events(answer.events, answer_alone(sim, request, bench.core.context_length()).events));
  CHECK(other->finish_reason() == FinishReason::length);
}

TEST_CASE("max_output_tokens 0 scores the prompt and ends") {
  SimCore bench(small_options(8));
  Request request = make_request(128, 0);
  request.prompt_logprobs = 0;
  const auto stream = bench.submit(request);
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::length);
  CHECK(stream->stats().output_tokens == 0);
  CHECK(stream->take_prompt_logprobs().size() == 128);
  request.prompt = {5};
  const auto single = bench.submit(request);
  bench.run();
  CHECK(single->finish_reason() == FinishReason::length);
  CHECK(single->take_prompt_logprobs().size() == 1);
}

TEST_CASE("launch and collect are a step; nothing is allocated on the device while stepping") {
  SimCore bench(small_options(16));
  const auto stream = bench.submit(make_request(40, 60));
  const std::int64_t allocations = bench.backend.allocations();
  while (bench.core.size() > 0) {
    const auto ticket = bench.core.launch();
    if (ticket) bench.core.collect(*ticket);
  }
  CHECK(bench.backend.allocations() == allocations);
  CHECK_FALSE(bench.core.launch().has_value());
  CHECK(stream->finish_reason() != FinishReason::none);
}

TEST_CASE("finish_all ends everything once") {
  SimCore bench(small_options(16));
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 20; ++i) streams.push_back(bench.submit(make_request(30, 60, i)));
  bench.core.step();
  bench.core.finish_all(FinishReason::shutdown);
  bench.core.check_integrity();
  for (const auto& stream : streams) CHECK(stream->finish_reason() == FinishReason::shutdown);
  CHECK(bench.core.stats().kv_blocks_used == 0);
}

TEST_CASE("a block table that lies is seen by the integrity check, and by the tokens") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(32);
  options.prefix_cache = false;
  SimCore bench(options, sim);
  const Request request = make_request(40, 30);
  const auto a = bench.submit(request);
  const auto b = bench.submit(make_request(40, 30, 2));
  for (int i = 0; i < 5; ++i) bench.core.step();
  REQUIRE_NOTHROW(bench.core.check_integrity());
  auto& running = bench.core.scheduler().running_sequences();
  REQUIRE(running.size() == 2);
  running[0]->blocks[1] = running[1]->blocks[1];
  CHECK_THROWS_AS(bench.core.check_integrity(), std::logic_error);
  while (running.size() == 2 && a->finish_reason() == FinishReason::none && running[0]->num_outputs() < 20) {
    bench.core.step();
  }
  std::vector<TokenId> got(running[0]->tokens.begin() + 40, running[0]->tokens.end());
  std::vector<TokenId> right = answer_alone(sim, request, 256).tokens;
  right.resize(got.size());
  CHECK(std::equal(got.begin(), got.begin() + 3, right.begin()));
  CHECK(got != right);
}

}  // namespace
}  // namespace inferd
