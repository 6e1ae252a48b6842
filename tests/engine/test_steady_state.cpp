// What a step may cost: no memory is allocated while requests decode, and a chat's next turn computes its new tokens
// only.
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/engine/sim_harness.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};

void* counted(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace inferd {
namespace {

/// Allocations in each of `steps` steps of four requests that decode, drained by their readers after every step.
std::vector<std::int64_t> allocations_of_steps(EngineOptions options, int steps, bool drafted) {
  SimOptions sim = small_sim();
  sim.max_context = 4096;
  sim.eos_probability = 0.0;
  sim.vocab_size = 8;
  sim.eos_token = 7;
  options.kv_cache_bytes = 2000 * kSimBlockBytes;
  MakeDraft draft;
  if (drafted) draft = [sim](VirtualClock* clock) { return make_sim_model(sim, clock); };
  SimCore bench(options, sim, nullptr, draft);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 4; ++i) {
    Request request = make_request(40 + i, 2900, i);
    for (TokenId& token : request.prompt) token %= 7;
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    request.sampling.top_k = i == 1 ? 4 : 0;
    request.sampling.top_p = i == 3 ? 0.9f : 1.0f;
    if (i == 2) request.sampling.frequency_penalty = 0.1f;
    streams.push_back(bench.submit(request));
  }
  for (int i = 0; i < 100; ++i) bench.core.step();
  std::vector<std::int64_t> counts;
  for (int i = 0; i < steps; ++i) {
    for (const auto& stream : streams) {
      TokenEvent event;
      while (stream->pop(&event, std::chrono::milliseconds(0)) == TokenStream::PopResult::token) {
      }
    }
    allocations = 0;
    counting = true;
    bench.core.step();
    counting = false;
    counts.push_back(allocations);
  }
  CHECK(bench.core.stats().running == 4);
  return counts;
}

TEST_CASE("the counter counts") {
  counting = true;
  delete new int(1);
  counting = false;
  CHECK(allocations >= 1);
}

TEST_CASE("steps of decoding requests allocate nothing") {
  for (const SpeculationMode mode : {SpeculationMode::off, SpeculationMode::ngram, SpeculationMode::draft}) {
    EngineOptions options = small_options(600);
    options.speculation.mode = mode;
    const std::vector<std::int64_t> counts = allocations_of_steps(options, 200, mode == SpeculationMode::draft);
    std::int64_t total = 0, steps_with = 0;
    for (const std::int64_t count : counts) {
      total += count;
      steps_with += count > 0 ? 1 : 0;
    }
    INFO("speculation " << static_cast<int>(mode) << ": " << total << " allocations in " << steps_with
                        << " of 200 steps");
    CHECK(total == 0);
  }
}

TEST_CASE("the second turn of a chat prefills its new tokens only, and starts in their time") {
  SimOptions sim = small_sim();
  sim.max_context = 4096;
  sim.eos_probability = 0.0;
  sim.token_s = 0.001;  // of virtual time, for each token computed
  EngineOptions options = small_options(400);
  options.max_batch_tokens = 64;
  SimCore bench(options, sim);
  Request request = make_request(1600, 64, 3);
  const auto first = bench.submit(request);
  bench.run();
  CHECK(first->stats().prefill_s == Approx(1.6).epsilon(0.01));
  Answer answer;
  drain(*first, &answer);

  request.prompt.insert(request.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  const std::vector<TokenId> question = counting_prompt(37, 11);
  request.prompt.insert(request.prompt.end(), question.begin(), question.end());
  const std::int64_t before = bench.core.stats().prompt_tokens;
  const auto second = bench.submit(request);
  bench.run();
  // The answer's last token was never computed, and its block not full: 1,663 tokens, of which 103 whole blocks.
  const std::int64_t prefilled = bench.core.stats().prompt_tokens - before;
  CHECK(second->stats().cached_tokens == 1648);
  CHECK(prefilled == 1701 - 1648);
  CHECK(second->stats().prefill_s == Approx(0.001 * static_cast<double>(prefilled)).epsilon(0.01));
}

TEST_CASE("a stream waits for a chunk of somebody's long prompt, never for the whole of it") {
  SimOptions sim = small_sim();
  sim.max_context = 4096;
  sim.eos_probability = 0.0;
  sim.token_s = 0.001;
  EngineOptions options = small_options(600);
  options.max_batch_tokens = 64;
  SimCore bench(options, sim);
  const auto stream = bench.submit(make_request(8, 200, 1));
  bench.core.step();
  const auto longer = bench.submit(make_request(3000, 1, 2));
  double worst = 0.0;
  std::int64_t tokens = 0;
  TimePoint last = bench.clock.now();
  Answer answer;
  while (longer->finish_reason() == FinishReason::none) {
    bench.core.step();
    drain(*stream, &answer);
    if (static_cast<std::int64_t>(answer.tokens.size()) == tokens) continue;
    tokens = static_cast<std::int64_t>(answer.tokens.size());
    worst = std::max(worst, std::chrono::duration<double>(bench.clock.now() - last).count());
    last = bench.clock.now();
  }
  CHECK(tokens > 40);
  CHECK(worst <= 0.065);  // 64 rows of a millisecond
}

}  // namespace
}  // namespace inferd
