// Tokens drawn on the device, and steps launched before the one before them is collected: no answer may change, and
// nothing that was computed in vain may show.
#include <numeric>

#include "engine/adapters/lora_adapter.h"
#include "tests/engine/device_backend.h"
#include "tests/engine/golden_run.h"

namespace inferd {
namespace {

DeviceBackend device_of_cpu(const DeviceTraits& traits = {.late = true}) {
  return {make_cpu_backend({.threads = 2}), traits};
}

EngineOptions ahead(int steps, std::int64_t blocks_bytes = 8 << 20) {
  EngineOptions options = options_with(blocks_bytes);
  options.steps_ahead = steps;
  return options;
}

TEST_CASE("a device that draws gives the host's answers, a step ahead or not") {
  for (const char* name : {"models/qwen2", "models/chatglm1", "models/qwen2_moe", "gguf/qwen2w.Q4_K_M.gguf"}) {
    for (const int steps : {0, 1}) {
      for (const bool captures : {false, true}) {
        INFO(name << ", " << steps << " ahead, captures " << captures);
        const auto plain = make_cpu_backend({.threads = 2});
        DeviceBackend device = device_of_cpu({.captures = captures, .late = true});
        Run expected(*plain, name, ahead(steps)), drawing(device, name, ahead(steps));
        check_equal(drawing.answers(14), expected.answers(14));
        CHECK(device.drawn > 200);
        const bool mixture = name == std::string("models/qwen2_moe");  // which waits where adapters may take part
        CHECK(device.downloads == 0);
        CHECK((device.unfinished > 10) == (steps == 1 && !mixture));
        CHECK((device.replays > 20) == (captures && !mixture));
        CHECK(drawing.core->stats().kv_blocks_used == 0);
      }
    }
  }
}

TEST_CASE("preemption, prefix hits and adapters a step ahead") {
  const auto plain = make_cpu_backend({.threads = 2});
  DeviceBackend device = device_of_cpu();
  Run expected(*plain, "models/qwen2", ahead(1)), drawing(device, "models/qwen2", ahead(1));
  check_equal(drawing.answers(6, 0, 300), expected.answers(6, 0, 300));
  check_equal(drawing.answers(6, 0, 300), expected.answers(6, 0, 300));
  CHECK(drawing.core->stats().cached_prompt_tokens == expected.core->stats().cached_prompt_tokens);

  const auto bytes = static_cast<std::int64_t>(expected.core->kv_plan().block_bytes) * 10;
  Run tight(*plain, "models/qwen2", ahead(1, bytes)), drawing_tight(device, "models/qwen2", ahead(1, bytes));
  check_equal(drawing_tight.answers(14), tight.answers(14));
  CHECK(drawing_tight.core->stats().preemptions > 0);

  const LoraAdapter adapter = read_lora_adapter(open_adapter(std::string(kGolden) + "lora/lora_qwen2_all"));
  const std::uint64_t of_expected = expected.core->load_adapter(adapter),
                      of_drawing = drawing.core->load_adapter(adapter);
  check_equal(drawing.answers(6, of_drawing), expected.answers(6, of_expected));
}

/// Requests with every kind of rule.
Request ruled_request(int i, std::int64_t vocab) {
  Request request;
  for (int t = 0; t < 2 + (i * 13) % 40; ++t) request.prompt.push_back(static_cast<TokenId>((i * 7 + t * 3) % vocab));
  request.max_output_tokens = 10 + i;
  request.stop_token_ids = {static_cast<TokenId>(vocab - 1), 5, 5, 70000};
  request.min_output_tokens = i % 4 == 1 ? 6 : 0;
  request.top_logprobs = i % 5 - 1;
  SamplingParams& sampling = request.sampling;
  sampling.seed = 100 + i;
  sampling.temperature = i % 3 == 0 ? 0.0f : 0.9f;
  sampling.top_k = i % 2 * 20;
  sampling.top_p = i % 4 == 2 ? 0.8f : 1.0f;
  sampling.min_p = i % 7 == 3 ? 0.05f : 0.0f;
  if (i % 3 != 1) sampling.repetition_penalty = 1.2f;
  if (i % 4 == 3) sampling.presence_penalty = 0.5f;
  if (i % 5 == 2) sampling.frequency_penalty = 0.3f;
  if (i % 2 == 0) sampling.logit_bias = {{3, 2.5f}, {static_cast<TokenId>(vocab - 1), -100.0f}, {8, -1.0f}};
  if (i % 4 == 3) sampling.logit_bias = {{5, 6.0f}};
  return request;
}

Answer answer_of(EngineCore& core, const Request& request) {
  auto result = core.submit(request);
  REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
  while (core.step()) core.check_integrity();
  Answer answer;
  drain(*std::get<std::shared_ptr<TokenStream>>(result), &answer);
  return answer;
}

TEST_CASE("16 requests of all rules at once: each as if it were alone, and as on the host") {
  const auto plain = make_cpu_backend({.threads = 2});
  DeviceBackend device = device_of_cpu();
  Run host(*plain, "models/qwen2", ahead(0)), alone(device, "models/qwen2", ahead(1)),
      together(device, "models/qwen2", ahead(1));
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 16; ++i) {
    auto result = together.core->submit(ruled_request(i, together.core->info().vocab_size));
    streams.push_back(std::get<std::shared_ptr<TokenStream>>(result));
  }
  while (together.core->step()) together.core->check_integrity();
  CHECK(device.downloads == 0);
  int stopped = 0;
  for (int i = 0; i < 16; ++i) {
    INFO("request " << i);
    Answer answer;
    drain(*streams[static_cast<std::size_t>(i)], &answer);
    const Request request = ruled_request(i, host.core->info().vocab_size);
    const Answer expected = answer_of(*host.core, request), single = answer_of(*alone.core, request);
    CHECK(equal_events(answer.events, expected.events));
    CHECK(equal_events(single.events, expected.events));
    CHECK(answer.reason == expected.reason);
    stopped += answer.reason == FinishReason::stop ? 1 : 0;
  }
  CHECK(stopped > 0);
}

/// A sim core on a device that works at once.
struct DeviceSim {
  explicit DeviceSim(EngineOptions options, const SimOptions& sim = small_sim(), int steps = 1)
      : device(std::make_unique<SimBackend>(std::size_t{1} << 30), {}),
        bench((options.steps_ahead = steps, options), sim, &device) {}
  DeviceBackend device;
  SimCore bench;
};

TEST_CASE("rules without a form on the device are the host's") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  const auto check = [&](const Request& request, int drawn) {
    DeviceSim device(small_options(16), sim);
    const auto stream = device.bench.submit(request);
    device.bench.run();
    Answer answer;
    drain(*stream, &answer);
    CHECK(equal_events(answer.events, answer_alone(sim, request, 256).events));
    CHECK(device.device.drawn == drawn);
    CHECK(device.device.downloads == static_cast<int>(answer.tokens.size()) - drawn);
  };
  const Request plain = make_request(20, 9);
  check(plain, 9);
  Request twice = plain;
  twice.sampling.logit_bias = {{3, 1.0f}, {4, 1.0f}, {3, 1.0f}};
  check(twice, 0);
  Request many = plain;
  for (int i = 0; i < 1025; ++i) many.sampling.logit_bias.emplace_back(i % 40, 0.5f);
  check(many, 0);
  sim.vocab_size = 100;
  Request banning = plain;
  banning.stop_token_ids.resize(65);
  std::iota(banning.stop_token_ids.begin(), banning.stop_token_ids.end(), 0);
  banning.min_output_tokens = 9;
  check(banning, 0);
  banning.stop_token_ids.pop_back();
  check(banning, 9);
}

TEST_CASE("a history longer than a slot goes to the host from there on") {
  SimOptions sim = small_sim();
  sim.max_context = 33000;
  sim.vocab_size = 33000;
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(2100);
  options.max_batch_tokens = 4096;
  options.max_concurrent_requests = 1;
  DeviceSim device(options, sim);
  Request request = make_request(32760, 16);
  for (TokenId& token : request.prompt) token %= 47;
  request.sampling.repetition_penalty = 1.1f;
  const auto stream = device.bench.submit(request);
  device.bench.run();
  Answer answer;
  drain(*stream, &answer);
  CHECK(device.device.drawn == 8);
  CHECK(equal_events(answer.events, answer_alone(sim, request, 33000).events));
}

TEST_CASE("log-probabilities of a prompt are the host's, the tokens after it the device's") {
  const SimOptions sim = small_sim();
  DeviceSim device(small_options(16), sim), host(small_options(16), sim, 0);
  SimCore plain(small_options(16), sim);
  Request request = make_request(70, 12, 6);
  request.prompt_logprobs = 2;
  const Answer expected = answer_of(plain.core, request);
  const auto stream = device.bench.submit(request), other = device.bench.submit(make_request(9, 30, 2));
  device.bench.run();
  Answer answer;
  drain(*stream, &answer);
  CHECK(equal_events(answer.events, expected.events));
  CHECK(stream->take_prompt_logprobs().size() == 70);
  CHECK(device.device.downloads == 69);
}

TEST_CASE("guesses keep tokens on the host, and are not made where the device draws") {
  SimOptions sim = small_sim();
  sim.vocab_size = 8;
  sim.eos_token = 7;
  EngineOptions options = small_options(40);
  for (const auto mode : {SpeculationMode::ngram, SpeculationMode::automatic}) {
    options.speculation.mode = mode;
    DeviceSim device(options, sim);
    Request request = make_request(30, 60, 4);
    for (TokenId& token : request.prompt) token %= 3;
    request.stop_token_ids = {};
    CHECK(equal_events(answer_of(device.bench.core, request).events, answer_alone(sim, request, 256).events));
    CHECK((device.device.drawn == 0) == (mode == SpeculationMode::ngram));
    CHECK((device.bench.core.stats().draft_tokens > 0) == (mode == SpeculationMode::ngram));
  }
}

TEST_CASE("the last token is known to be the last: no step is computed for nothing") {
  for (const std::int64_t outputs : {0, 1, 2, 17}) {
    SimOptions sim = small_sim();
    sim.eos_probability = 0.0;
    DeviceSim with(small_options(16), sim), without(small_options(16), sim, 0);
    const auto first = with.bench.submit(make_request(40, outputs)),
               second = without.bench.submit(make_request(40, outputs));
    with.bench.run();
    without.bench.run();
    CHECK(first->finish_reason() == FinishReason::length);
    CHECK(first->stats().output_tokens == outputs);
    CHECK(with.bench.core.stats().steps == without.bench.core.stats().steps);
    CHECK(with.bench.core.stats().prompt_tokens == 40);
  }
}

TEST_CASE("what was computed behind a stop token shows nowhere") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.2;
  int surplus = 0;
  for (int seed = 0; seed < 40; ++seed) {
    DeviceSim with(small_options(16), sim), without(small_options(16), sim, 0);
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (DeviceSim* each : {&with, &without}) {
      Request request = make_request(17, 60, seed);
      streams.push_back(each->bench.submit(request));
      each->bench.run();
      Answer answer;
      drain(*streams.back(), &answer);
      CHECK(equal_events(answer.events, answer_alone(sim, request, 256).events));
      CHECK(each->bench.core.stats().output_tokens == static_cast<std::int64_t>(answer.tokens.size()));
      CHECK(each->bench.core.stats().kv_blocks_used == 0);
      // The next turn builds upon what was published.
      request.prompt.insert(request.prompt.end(), answer.tokens.begin(), answer.tokens.end());
      request.prompt.push_back(9);
      for (TokenId& token : request.prompt) token = std::min(token, 46);
      request.prompt.back() = 46;
      streams.push_back(each->bench.submit(request));
      each->bench.run();
      answer = {};
      drain(*streams.back(), &answer);
      CHECK(equal_events(answer.events, answer_alone(sim, request, 256).events));
    }
    CHECK(streams[1]->stats().cached_tokens == streams[3]->stats().cached_tokens);
    CHECK(with.bench.core.stats().kv_blocks_cached == without.bench.core.stats().kv_blocks_cached);
    surplus += with.bench.core.stats().steps > without.bench.core.stats().steps ? 1 : 0;
  }
  CHECK(surplus > 10);
}

TEST_CASE("launch, launch, collect: requests cancelled or ended between") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  DeviceSim device(small_options(16), sim);
  EngineCore& core = device.bench.core;
  const auto kept = device.bench.submit(make_request(5, 30, 1)), dropped = device.bench.submit(make_request(5, 30, 2));
  const auto first = core.launch();
  CHECK(core.can_launch());
  dropped->cancel();
  const auto second = core.launch();
  REQUIRE((first && second));
  CHECK(first->step == 0);
  CHECK(second->step == 1);
  CHECK_FALSE(core.can_launch());
  CHECK(dropped->finish_reason() == FinishReason::cancelled);
  core.check_integrity();
  core.collect(*first);
  core.check_integrity();
  CHECK(dropped->stats().output_tokens == 0);
  CHECK(core.can_launch());
  core.finish_all(FinishReason::shutdown);
  core.check_integrity();
  CHECK(kept->stats().output_tokens == 1);
  CHECK(core.stats().kv_blocks_used == 0);
  CHECK_FALSE(core.step());
  // What was in flight is forgotten.
  const Request request = make_request(30, 20, 3);
  CHECK(equal_events(answer_of(core, request).events, answer_alone(sim, request, 256).events));
}

TEST_CASE("a forward given up while a step is in flight") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  DeviceSim device(small_options(16), sim);
  EngineCore& core = device.bench.core;
  const Request request = make_request(40, 30, 1);
  const auto stream = device.bench.submit(request);
  for (int i = 0; i < 6; ++i) core.step();  // two for the prompt, of which one token is out
  Answer before;
  drain(*stream, &before);
  CHECK(before.tokens.size() == 4);
  core.on_progress([&] { stream->cancel(); });
  CHECK(core.step());
  core.on_progress({});
  core.check_integrity();
  drain(*stream, &before);
  CHECK(before.tokens.size() == 5);
  CHECK_FALSE(core.step());
  CHECK(stream->finish_reason() == FinishReason::cancelled);
  const Answer again = answer_of(core, request);
  CHECK(equal_events(again.events, answer_alone(sim, request, 256).events));
  CHECK(equal_events(before.events, {again.events.begin(), again.events.begin() + 5}));
}

TEST_CASE("a sequence that waits again leaves its rules on the device to others") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  EngineOptions options = small_options(5);
  options.max_concurrent_requests = 2;
  DeviceSim device(options, sim);
  EngineCore& core = device.bench.core;
  std::vector<Request> requests = {make_request(20, 50, 1), make_request(20, 50, 2), make_request(5, 3, 3)};
  for (Request& request : requests) request.sampling.repetition_penalty = 1.2f;
  requests[2].priority = -1;
  std::vector<std::shared_ptr<TokenStream>> streams = {device.bench.submit(requests[0]),
                                                       device.bench.submit(requests[1])};
  while (core.stats().preemptions == 0) core.step();
  streams.push_back(device.bench.submit(requests[2]));
  core.step();
  CHECK(core.stats().running == 2);  // the third before the second
  device.bench.run();
  CHECK(device.device.downloads == 0);
  for (std::size_t i = 0; i < 3; ++i) {
    Answer answer;
    drain(*streams[i], &answer);
    CHECK(equal_events(answer.events, answer_alone(sim, requests[i], 80).events));
  }
}

TEST_CASE("logits that are not finite end one request, a step later than they were drawn from") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  sim.poison_token = 46;
  DeviceSim device(small_options(16), sim);
  Request poisoned = make_request(12, 30, 1), healthy = make_request(12, 30, 2);
  poisoned.prompt[5] = 46;
  for (TokenId& token : healthy.prompt) token %= 46;
  healthy.sampling.logit_bias = poisoned.sampling.logit_bias = {{46, -100.0f}};
  Request nothing_left = healthy;
  for (TokenId token = 0; token < 48; ++token) nothing_left.sampling.logit_bias.emplace_back(token, -100.0f);
  nothing_left.sampling.logit_bias.erase(nothing_left.sampling.logit_bias.begin());
  const auto bad = device.bench.submit(poisoned), good = device.bench.submit(healthy),
             none = device.bench.submit(nothing_left);
  device.bench.run();
  CHECK(bad->finish_reason() == FinishReason::error);
  CHECK(bad->stats().output_tokens == 0);
  CHECK(none->finish_reason() == FinishReason::stop);
  CHECK(none->stats().output_tokens == 0);
  Answer answer;
  drain(*good, &answer);
  CHECK(equal_events(answer.events, answer_alone(sim, healthy, 256).events));
  CHECK(device.device.downloads == 0);
}

TEST_CASE("an adapter stays until the last step that uses it is collected") {
  const LoraAdapter adapter = read_lora_adapter(open_adapter(std::string(kGolden) + "lora/lora_qwen2_all"));
  DeviceBackend device = device_of_cpu();
  Run run(device, "models/qwen2", ahead(1));
  Request request = ruled_request(3, run.core->info().vocab_size);
  request.adapter = run.core->load_adapter(adapter);
  auto result = run.core->submit(request);
  const auto stream = std::get<std::shared_ptr<TokenStream>>(result);
  const auto other = run.core->submit(ruled_request(4, run.core->info().vocab_size));
  run.core->step();
  stream->cancel();
  const auto ticket = run.core->launch();  // the one before is still in flight
  REQUIRE(ticket);
  CHECK(stream->finish_reason() == FinishReason::cancelled);
  run.core->retire_adapter(request.adapter);
  CHECK(run.core->adapters() == 1);
  run.core->collect({ticket->step - 1});
  CHECK(run.core->adapters() == 0);
  run.core->collect(*ticket);
  while (run.core->step()) run.core->check_integrity();
  CHECK(std::get<std::shared_ptr<TokenStream>>(other)->finish_reason() != FinishReason::none);
}

}  // namespace
}  // namespace inferd
