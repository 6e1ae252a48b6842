// EngineCore over forwards and draws on the GPU, a step ahead: company, chunks, prefix hits, preemption, guesses and
// adapters change no bit of an answer; the host would draw the same tokens; and what is said when the GPU has no room.
#include <string>

#include "base/errors.h"
#include "engine/adapters/lora_adapter.h"
#include "engine/engine.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/engine/golden_core.h"
#include "tests/errors.h"
#include "tests/models/model_harness.h"

namespace inferd {
namespace {

constexpr int kRequests = 16;

EngineOptions options_with(std::int64_t batch_tokens, std::size_t kv_cache_bytes, DType kv = DType::f16) {
  EngineOptions options;
  options.kv_dtype = kv;
  options.max_batch_tokens = batch_tokens;
  options.context_length = 96;
  options.kv_cache_bytes = kv_cache_bytes;
  options.max_adapters = 2;
  return options;
}

constexpr char kGpus[] = "seed=11,devices=2";

std::unique_ptr<Backend> gpu_backend(ActivationMode mode = ActivationMode::automatic) {
  cuda::test::use_fake_gpu(kGpus);
  return make_cuda_backend({.activations = mode});
}

struct GpuCore {
  GpuCore(Backend& backend, const std::string& path, const EngineOptions& options)
      : core(load_decoder(path, backend, options), backend, options, clock) {}
  std::shared_ptr<TokenStream> submit(const Request& request) { return inferd::submit(core, request); }
  Answer finish(const std::shared_ptr<TokenStream>& stream) { return inferd::finish(core, stream); }
  Answer answer(const Request& request) { return finish(submit(request)); }
  SystemClock clock;
  EngineCore core;
};

Request some_request(int i, std::int64_t vocab, std::int64_t outputs = 0) {
  Request request;
  for (int t = 0; t < 3 + (i * 11) % 45; ++t) {
    request.prompt.push_back(static_cast<TokenId>((i / 4 * 17 + t * 29 + 5) % vocab));
  }
  request.max_output_tokens = outputs > 0 ? outputs : 4 + i % 8;
  request.sampling.seed = i;
  request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.0f;
  request.top_logprobs = 3;
  return request;
}

std::vector<Answer> answers_alone(Backend& backend, const std::string& path, std::size_t* block_bytes,
                                  DType kv = DType::f16) {
  EngineOptions options = options_with(256, 1 << 20, kv);
  options.prefix_cache = false;
  GpuCore alone(backend, path, options);
  *block_bytes = alone.core.kv_plan().block_bytes;
  std::vector<Answer> answers;
  for (int i = 0; i < kRequests; ++i) answers.push_back(alone.answer(some_request(i, 300)));
  return answers;
}

/// All requests at once, then some again, whose prefixes are there.
DecoderStats check_together(Backend& backend, const std::string& path, const EngineOptions& options,
                            const std::vector<Answer>& expected) {
  GpuCore together(backend, path, options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < kRequests + 4; ++i) streams.push_back(together.submit(some_request(i % kRequests, 300)));
  for (std::size_t i = 0; i < streams.size(); ++i) {
    CHECK(equal_events(together.finish(streams[i]).events, expected[i % kRequests].events));
  }
  CHECK(together.core.stats().kv_blocks_used == 0);
  return together.core.stats();
}

TEST_CASE("the same answers alone, together, in small chunks and on prefix hits") {
  const auto backend = gpu_backend();
  for (const char* path : {"gguf/llama2.Q4_0.gguf", "models/qwen3"}) {
    INFO(path);
    std::size_t block_bytes = 0;
    const std::vector<Answer> expected = answers_alone(*backend, path, &block_bytes);
    CHECK(check_together(*backend, path, options_with(16, 100 * block_bytes), expected).cached_prompt_tokens > 0);
  }
}

TEST_CASE("the same answers alone, together, in small chunks and on prefix hits with int8 activations") {
  const auto backend = gpu_backend();
  const testing::VariantFolder folder(testing::golden_dir() / "models/qwen2_w8a8", "config.int8.json");
  std::size_t block_bytes = 0;
  const std::vector<Answer> expected = answers_alone(*backend, folder.path(), &block_bytes);
  CHECK(check_together(*backend, folder.path(), options_with(16, 100 * block_bytes), expected).cached_prompt_tokens >
        0);
}

/// Requests that push one another out of a small cache answer as alone in a large one. Their answers take more than a
/// block beyond the one that admission keeps spare.
void check_preempted(Backend& backend, const std::string& path, std::size_t block_bytes, DType kv) {
  GpuCore alone(backend, path, options_with(64, 100 * block_bytes, kv));
  GpuCore narrow(backend, path, options_with(64, 7 * block_bytes, kv));
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 3; ++i) streams.push_back(narrow.submit(some_request(i, 300, 40)));
  for (int i = 0; i < 3; ++i) {
    const Answer answer = narrow.finish(streams[static_cast<std::size_t>(i)]);
    CHECK(equal_events(answer.events, alone.answer(some_request(i, 300, 40)).events));
  }
  CHECK(narrow.core.stats().preemptions > 0);
}

TEST_CASE("the same answers alone, together, in small chunks and on prefix hits of a q8_0 cache") {
  const auto backend = gpu_backend();
  const std::string path = "gguf/qwen2w.Q4_K_M.gguf";
  std::size_t block_bytes = 0;
  const std::vector<Answer> expected = answers_alone(*backend, path, &block_bytes, DType::q8_0);
  CHECK(block_bytes == 2 * 2 * 16 * 34);  // layers, keys and values, tokens, one head's run of 32
  CHECK(
      check_together(*backend, path, options_with(16, 100 * block_bytes, DType::q8_0), expected).cached_prompt_tokens >
      0);
}

TEST_CASE("the same answers alone, together, in small chunks, on prefix hits and after preemption in a fp8 cache") {
  const auto backend = gpu_backend();
  const std::string path = "models/qwen3";
  std::size_t block_bytes = 0;
  const std::vector<Answer> expected = answers_alone(*backend, path, &block_bytes, DType::fp8);
  CHECK(block_bytes == 2 * 2 * 2 * 16 * (24 + 2));  // layers, keys and values, heads, tokens, a head's codes and scale
  CHECK(check_together(*backend, path, options_with(16, 100 * block_bytes, DType::fp8), expected).cached_prompt_tokens >
        0);
  check_preempted(*backend, path, block_bytes, DType::fp8);
}

TEST_CASE("the same answers alone, in one great step, and after preemption") {
  const auto backend = gpu_backend();
  std::size_t block_bytes = 0;
  const std::vector<Answer> expected = answers_alone(*backend, "models/qwen2", &block_bytes);
  CHECK(check_together(*backend, "models/qwen2", options_with(256, 100 * block_bytes), expected).preemptions == 0);
  check_preempted(*backend, "models/qwen2", block_bytes, DType::f16);
}

/// Tokens are sampled on the host where guesses might be made.
EngineOptions guessing(std::int64_t longest, DType kv = DType::f16) {
  EngineOptions options = options_with(64, 1 << 20, kv);
  options.speculation.mode = SpeculationMode::ngram;
  options.speculation.max_tokens = longest;
  return options;
}

TEST_CASE("the GPU draws the tokens that the host would, a step ahead or not") {
  const auto backend = gpu_backend();
  EngineOptions in_step = options_with(64, 1 << 20);
  in_step.steps_ahead = 0;
  GpuCore host(*backend, "models/qwen2", guessing(0)), device(*backend, "models/qwen2", options_with(64, 1 << 20)),
      behind(*backend, "models/qwen2", in_step);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 8; ++i) {
    Request request = some_request(i, 300, 8);
    request.top_logprobs = i % 4 * 7 - 1;
    SamplingParams& sampling = request.sampling;
    if (i % 2 == 0) sampling.repetition_penalty = 1.3f;
    if (i % 3 == 1) sampling.presence_penalty = 0.4f;
    if (i % 4 == 2) sampling.frequency_penalty = 0.2f;
    if (i % 3 == 2) sampling.top_k = 30;
    if (i % 4 == 1) sampling.top_p = 0.9f;
    if (i == 7) sampling.min_p = 0.02f;
    if (i % 3 == 0) sampling.logit_bias = {{7, 3.0f}, {11, -100.0f}};
    request.stop_token_ids = {7};
    request.min_output_tokens = i % 2 * 4;
    requests.push_back(request);
    streams.push_back(device.submit(request));
  }
  std::size_t stopped = 0;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    INFO("request " << i);
    const Answer answer = device.finish(streams[i]), expected = host.answer(requests[i]);
    CHECK(answer.tokens == expected.tokens);
    CHECK(answer.reason == expected.reason);
    CHECK(equal_events(behind.answer(requests[i]).events, answer.events));
    stopped += answer.reason == FinishReason::stop ? 1 : 0;
    REQUIRE(answer.events.size() == expected.events.size());
    for (std::size_t t = 0; t < answer.events.size(); ++t) {
      const TokenEvent &event = answer.events[t], &other = expected.events[t];
      CHECK(event.logprob == Approx(other.logprob).margin(5e-6));
      REQUIRE(event.top.size() == other.top.size());
      for (std::size_t k = 0; k < event.top.size(); ++k) {
        CHECK(event.top[k].token == other.top[k].token);
        CHECK(event.top[k].logprob == Approx(other.top[k].logprob).margin(5e-6));
      }
    }
  }
  CHECK(stopped > 0);
}

TEST_CASE("the same answers alone and together on two GPUs, and no adapters", "[fake]") {
  cuda::test::use_fake_gpu(kGpus);
  const auto backend = make_tensor_parallel_backend({.ordinals = {0, 1}});
  for (const char* path : {"gguf/llama2.Q4_0.gguf", "models/qwen3"}) {
    INFO(path);
    std::size_t block_bytes = 0;
    const std::vector<Answer> expected = answers_alone(*backend, path, &block_bytes);
    CHECK(check_together(*backend, path, options_with(16, 100 * block_bytes), expected).cached_prompt_tokens > 0);
  }
  const auto single = gpu_backend();
  GpuCore divided(*backend, "models/qwen2", options_with(64, 1 << 20));
  GpuCore whole(*single, "models/qwen2", options_with(64, 1 << 20));
  CHECK(2 * divided.core.kv_plan().block_bytes == whole.core.kv_plan().block_bytes);
  const LoraAdapter adapter = read_lora_adapter(open_adapter(kGolden + "lora/lora_qwen2"));
  CHECK(testing::has(testing::error_of([&] { divided.core.load_adapter(adapter); }).what(),
                     "adapters: this model takes none on cuda (2 GPUs"));
}

TEST_CASE("guessing ahead changes no bit of an answer") {
  const auto backend = gpu_backend();
  for (const DType kv : {DType::f16, DType::fp8}) {
    GpuCore plain(*backend, "models/qwen2", guessing(0, kv));
    GpuCore guesser(*backend, "models/qwen2", guessing(8, kv));
    for (int i = 0; i < 4; ++i) {
      Request request = some_request(i, 300, 12);
      for (std::size_t t = 0; t < request.prompt.size(); ++t) request.prompt[t] = request.prompt[t % 5];
      for (std::size_t t = 0; t < 5 && t < request.prompt.size(); ++t) {
        request.sampling.logit_bias.emplace_back(request.prompt[t], 20.0f);
      }
      CHECK(equal_events(guesser.answer(request).events, plain.answer(request).events));
    }
    CHECK(guesser.core.stats().accepted_draft_tokens > 0);
  }
}

TEST_CASE("two adapters and none in one batch: each as if it were alone") {
  const auto backend = gpu_backend();
  for (const auto& [path, kv] : {std::pair("models/qwen2", DType::f16), {"gguf/qwen2.Q4_0.gguf", DType::fp8}}) {
    INFO(path);
    GpuCore bench(*backend, path, options_with(64, 1 << 20, kv));
    const auto adapter = [](const char* name) { return read_lora_adapter(open_adapter(kGolden + "lora/" + name)); };
    const std::uint64_t ids[] = {0, bench.core.load_adapter(adapter("lora_qwen2")),
                                 bench.core.load_adapter(adapter("lora_qwen2_all"))};
    std::vector<Request> requests;
    std::vector<Answer> expected;
    for (int i = 0; i < 6; ++i) {
      requests.push_back(some_request(3, 300));
      requests.back().adapter = ids[i % 3];
      expected.push_back(bench.answer(requests.back()));
    }
    CHECK(equal_events(expected[0].events, expected[3].events));
    CHECK_FALSE(equal_events(expected[0].events, expected[1].events));
    CHECK_FALSE(equal_events(expected[1].events, expected[2].events));
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (const Request& request : requests) streams.push_back(bench.submit(request));
    for (std::size_t i = 0; i < streams.size(); ++i) {
      CHECK(equal_events(bench.finish(streams[i]).events, expected[i].events));
    }
    bench.core.retire_adapter(ids[1]);
    CHECK(bench.core.adapters() == 1);
  }
}

TEST_CASE("a context the GPU has no room for is refused with both numbers") {
  const auto backend = gpu_backend();
  EngineOptions options = options_with(64, 0);
  options.kv_memory_fraction = 1e-7;
  try {
    GpuCore core(*backend, "models/qwen2", options);
    FAIL("there was room");
  } catch (const MemoryError& error) {
    const std::string text = error.what();
    INFO(text);
    CHECK(text.find("96 tokens of context need 24576 bytes") != std::string::npos);
    CHECK(text.find("bytes are available for it") != std::string::npos);
  }
}

}  // namespace
}  // namespace inferd
