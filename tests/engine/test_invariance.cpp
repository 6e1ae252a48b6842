// A request's tokens and log-probabilities never depend on company, chunking, prefix hits or preemption.
#include <random>

#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

Request varied_request(int i) {
  Request request = make_request(5 + (i * 13) % 70, 20 + i, i);
  request.top_logprobs = i % 4 - 1;
  request.sampling.temperature = i % 5 == 0 ? 0.0f : 0.6f + 0.1f * static_cast<float>(i % 7);
  request.sampling.top_p = i % 3 == 0 ? 0.9f : 1.0f;
  request.sampling.top_k = i % 4 == 1 ? 10 : 0;
  request.sampling.repetition_penalty = i % 3 == 1 ? 1.2f : 1.0f;
  request.sampling.frequency_penalty = i % 6 == 2 ? 0.4f : 0.0f;
  request.min_output_tokens = i % 2 == 0 ? 4 : 0;
  return request;
}

void check_all(const SimOptions& sim, const EngineOptions& options, int count, std::int64_t* preemptions = nullptr) {
  SimCore bench(options, sim);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < count; ++i) {
    requests.push_back(varied_request(i));
    streams.push_back(bench.submit(requests.back()));
    if (i % 3 == 2) bench.core.step();
  }
  bench.run();
  for (int i = 0; i < count; ++i) {
    Answer answer;
    drain(*streams[static_cast<std::size_t>(i)], &answer);
    const Answer alone = answer_alone(sim, requests[static_cast<std::size_t>(i)], bench.core.context_length());
    CHECK(equal_events(answer.events, alone.events));
    CHECK(answer.reason == alone.reason);
  }
  CHECK(bench.core.stats().kv_blocks_used == 0);
  if (preemptions != nullptr) *preemptions = bench.core.stats().preemptions;
}

TEST_CASE("16 at once equal 16 alone, whatever the step size") {
  for (const std::int64_t batch : {16, 17, 33, 512}) {
    EngineOptions options = small_options(200);
    options.max_concurrent_requests = 16;
    options.max_batch_tokens = batch;
    check_all(small_sim(), options, 16);
  }
}

TEST_CASE("one row at a time, one sequence at a time") {
  EngineOptions options = small_options(16);
  options.max_concurrent_requests = 16;
  options.max_batch_tokens = 1;
  check_all(small_sim(), options, 16);
  options.max_batch_tokens = 64;
  options.max_logit_rows = 1;
  check_all(small_sim(), options, 16);
}

TEST_CASE("preempted equals not preempted") {
  EngineOptions options = small_options(8);
  options.max_concurrent_requests = 16;
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  std::int64_t preemptions = 0;
  check_all(sim, options, 16, &preemptions);
  CHECK(preemptions > 2);
  options.prefix_cache = false;
  check_all(sim, options, 16, &preemptions);
  CHECK(preemptions > 2);
}

TEST_CASE("f32 caches too") {
  EngineOptions options = small_options(40);
  options.kv_dtype = DType::f32;
  check_all(small_sim(), options, 16);
}

TEST_CASE("a prefix hit equals a miss, down to a prompt of exactly whole blocks") {
  const SimOptions sim = small_sim();
  for (const std::int64_t length : {15, 16, 17, 31, 32, 33, 64, 100}) {
    SimCore bench(small_options(64), sim);
    Request request = make_request(length, 12, 5);
    request.top_logprobs = 2;
    const Answer alone = answer_alone(sim, request, 256);
    for (int round = 0; round < 3; ++round) {
      const auto stream = bench.submit(request);
      bench.run();
      Answer answer;
      drain(*stream, &answer);
      CHECK(equal_events(answer.events, alone.events));
      CHECK(stream->stats().cached_tokens == (round == 0 ? 0 : (length - 1) / 16 * 16));
    }
  }
}

TEST_CASE("the next turn of a conversation finds the answer's blocks too") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  SimCore bench(small_options(64), sim);
  Request request = make_request(40, 40, 5);
  const auto first = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*first, &answer);
  request.prompt.insert(request.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  request.prompt.push_back(3);
  const auto second = bench.submit(request);
  bench.run();
  CHECK(second->stats().cached_tokens == 64);  // 79 of the 81 tokens are computed: four full blocks
  Answer next;
  drain(*second, &next);
  CHECK(next.tokens == answer_alone(sim, request, 256).tokens);
}

TEST_CASE("equal prompts under different salts do not share, and answer alike") {
  const SimOptions sim = small_sim();
  SimCore bench(small_options(64), sim);
  Request request = make_request(60, 10, 5);
  const Answer alone = answer_alone(sim, request, 256);
  for (const char* salt : {"a", "b", "", "a"}) {
    request.cache_salt = std::string(salt);
    const auto stream = bench.submit(request);
    bench.run();
    Answer answer;
    drain(*stream, &answer);
    CHECK(answer.tokens == alone.tokens);
  }
  CHECK(bench.core.stats().cached_prompt_tokens == 48);  // only the second "a"
}

}  // namespace
}  // namespace inferd
