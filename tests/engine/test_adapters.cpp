// Adapters under the scheduler: company, prefix cache, unloading while requests run, slots.
#include <filesystem>
#include <thread>

#include "base/errors.h"
#include "engine/adapters/lora_adapter.h"
#include "engine/engine.h"
#include "tests/engine/golden_core.h"

namespace inferd {
namespace {

LoraAdapter adapter(const std::string& name) { return read_lora_adapter(open_adapter(kGolden + "lora/" + name)); }

EngineOptions small_engine(int slots) {
  EngineOptions options;
  options.max_batch_tokens = 64;
  options.context_length = 96;
  options.max_adapters = slots;
  return options;
}

struct AdapterCore {
  explicit AdapterCore(int slots = 2)
      : backend(make_cpu_backend({.threads = 2})),
        core(load_decoder("models/qwen2", *backend, small_engine(slots)), *backend, small_engine(slots), clock) {}
  std::shared_ptr<TokenStream> submit(Request request) {
    return std::get<std::shared_ptr<TokenStream>>(core.submit(std::move(request)));
  }
  Answer finish(const std::shared_ptr<TokenStream>& stream) { return inferd::finish(core, stream); }
  SystemClock clock;
  std::unique_ptr<Backend> backend;
  EngineCore core;
};

Request request_through(std::uint64_t adapter_id, int i, std::int64_t outputs = 20) {
  Request request;
  for (int t = 0; t < 40 + i; ++t) request.prompt.push_back((t * 29 + 5) % 300);  // prompts share their beginnings
  request.max_output_tokens = outputs;
  request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
  request.sampling.seed = i;
  request.top_logprobs = 3;
  request.adapter = adapter_id;
  return request;
}

TEST_CASE("two adapters and none under one scheduler: the same answers as alone, and no shared prefixes between them") {
  AdapterCore bench;
  const std::uint64_t first = bench.core.load_adapter(adapter("lora_qwen2"));
  const std::uint64_t second = bench.core.load_adapter(adapter("lora_qwen2_all"));
  const std::uint64_t ids[] = {0, first, second};
  std::vector<Answer> expected;
  for (int i = 0; i < 9; ++i) {
    AdapterCore alone;  // fresh: no prefix to hit
    const std::uint64_t own[] = {0, alone.core.load_adapter(adapter("lora_qwen2")),
                                 alone.core.load_adapter(adapter("lora_qwen2_all"))};
    expected.push_back(alone.finish(alone.submit(request_through(own[i % 3], i))));
  }
  CHECK(expected[0].tokens != expected[1].tokens);
  for (int round = 0; round < 2; ++round) {  // the second round hits the prefixes of the first
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (int i = 0; i < 9; ++i) streams.push_back(bench.submit(request_through(ids[i % 3], i)));
    for (std::size_t i = 0; i < streams.size(); ++i) {
      CHECK(equal_events(bench.finish(streams[i]).events, expected[i].events));
    }
  }
  CHECK(bench.core.stats().cached_prompt_tokens > 0);
}

TEST_CASE("an adapter loaded anew shares no prefix with its former self") {
  AdapterCore bench;
  const std::uint64_t first = bench.core.load_adapter(adapter("lora_qwen2"));
  bench.finish(bench.submit(request_through(first, 0)));
  bench.core.retire_adapter(first);
  CHECK(bench.core.adapters() == 0);
  const std::uint64_t again = bench.core.load_adapter(adapter("lora_qwen2"));
  CHECK(again != first);
  const std::int64_t cached = bench.core.stats().cached_prompt_tokens;
  bench.finish(bench.submit(request_through(again, 0)));
  CHECK(bench.core.stats().cached_prompt_tokens == cached);
}

TEST_CASE("a retired adapter serves its requests to the end, then its slot is free") {
  AdapterCore bench(1);
  const std::uint64_t id = bench.core.load_adapter(adapter("lora_qwen2_all"));
  CHECK_THROWS_AS(bench.core.load_adapter(adapter("lora_qwen2")), MemoryError);
  const Answer expected = bench.finish(bench.submit(request_through(id, 1)));
  const auto running = bench.submit(request_through(id, 1));
  const auto waiting = bench.submit(request_through(id, 1));
  bench.core.step();
  bench.core.retire_adapter(id);
  CHECK(bench.core.adapters() == 1);
  CHECK_THROWS_AS(bench.core.load_adapter(adapter("lora_qwen2")), MemoryError);
  CHECK(equal_events(bench.finish(running).events, expected.events));
  CHECK(equal_events(bench.finish(waiting).events, expected.events));
  CHECK(bench.core.adapters() == 0);
  bench.core.load_adapter(adapter("lora_qwen2"));
}

TEST_CASE("an adapter that does not fit leaves its slot empty") {
  AdapterCore bench(1);
  CHECK_THROWS_AS(bench.core.load_adapter(adapter("peft_llama2")), CheckpointError);
  CHECK(bench.core.adapters() == 0);
  bench.core.load_adapter(adapter("lora_qwen2"));
}

TEST_CASE("adapters come and go while other threads send requests") {
  SystemClock clock;
  const auto backend = make_cpu_backend({.threads = 1});
  Engine engine(clock);
  const ModelHandle handle =
      engine.add_decoder(load_decoder("models/qwen2", *backend, small_engine(2)), *backend, small_engine(2));
  const std::uint64_t first = engine.load_adapter(handle, adapter("lora_qwen2"));
  engine.start();
  const auto answer_of = [&](std::uint64_t id) {
    auto submitted = engine.submit(handle, request_through(id, 0, 8));
    Answer answer;
    if (auto* stream = std::get_if<std::shared_ptr<TokenStream>>(&submitted)) {
      TokenEvent event;
      while ((*stream)->pop(&event, std::chrono::seconds(10)) == TokenStream::PopResult::token) {
        answer.tokens.push_back(event.token);
      }
      answer.reason = (*stream)->finish_reason();
    }
    return answer;
  };
  const Answer plain = answer_of(0), through_first = answer_of(first);
  CHECK(plain.tokens != through_first.tokens);
  std::thread clients([&] {
    for (int i = 0; i < 20; ++i) {
      CHECK(answer_of(0).tokens == plain.tokens);
      CHECK(answer_of(first).tokens == through_first.tokens);
    }
  });
  std::vector<TokenId> through_second;
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t id = engine.load_adapter(handle, adapter("lora_qwen2_all"));
    const Answer answer = answer_of(id);
    if (i == 0) through_second = answer.tokens;
    CHECK(answer.tokens == through_second);
    CHECK_THROWS_AS(engine.load_adapter(handle, adapter("lora_qwen2_all")), MemoryError);
    CHECK(engine.unload_adapter(handle, id));
    CHECK_FALSE(engine.unload_adapter(handle, id));
    auto late = engine.submit(handle, request_through(id, 0));
    REQUIRE(std::holds_alternative<Rejection>(late));
    CHECK(std::get<Rejection>(late).kind == Rejection::Kind::no_adapter);
  }
  clients.join();
  engine.stop();
  CHECK_THROWS_AS(engine.load_adapter(handle, adapter("lora_qwen2")), ConfigError);
}

}  // namespace
}  // namespace inferd
