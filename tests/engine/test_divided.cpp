// Models whose layers are divided between two backends: the bits of one backend, for every division.
#include <filesystem>

#include "base/errors.h"
#include "engine/adapters/lora_adapter.h"
#include "tests/engine/golden_core.h"

namespace inferd {
namespace {

/// A golden model whose first `host_layers` layers are on a backend of their own.
struct DividedCore {
  DividedCore(const std::string& name, int host_layers, const EngineOptions& options)
      : lower(make_cpu_backend({.threads = 1})), upper(make_cpu_backend({.threads = 2})) {
    auto model = load_decoder(name, *upper, options, lower.get(), host_layers);
    spec = model->kv_spec();
    core = std::make_unique<EngineCore>(std::move(model), *upper, options, clock);
  }
  std::vector<Answer> answers(const std::vector<Request>& requests) { return inferd::answers(*core, requests); }
  SystemClock clock;
  std::unique_ptr<Backend> lower, upper;
  KvSpec spec;
  std::unique_ptr<EngineCore> core;
};

EngineOptions small_pool() {
  EngineOptions options;
  options.max_batch_tokens = 40;
  options.context_length = 96;
  options.kv_cache_bytes = 8 << 20;
  options.max_adapters = 1;
  return options;
}

std::vector<Request> requests_for(std::int64_t vocab, std::uint64_t adapter = 0) {
  std::vector<Request> all;
  for (int i = 0; i < 6; ++i) {
    Request request;
    for (int t = 0; t < 3 + i * 13; ++t) request.prompt.push_back(static_cast<TokenId>((i * 17 + t * 29 + 5) % vocab));
    request.max_output_tokens = 10;
    request.top_logprobs = 3;
    request.sampling.temperature = 0.0f;
    request.adapter = i % 2 == 1 ? adapter : 0;
    all.push_back(request);
  }
  return all;
}

TEST_CASE("every division of a model gives the bits of the undivided one") {
  for (const char* name : {"models/llama3", "models/qwen3", "models/qwen1", "models/glm4", "models/chatglm3",
                           "models/qwen2_moe", "gguf/qwen2w.Q4_K_M.gguf"}) {
    DividedCore whole(name, 0, small_pool());
    const std::vector<Request> requests = requests_for(whole.core->info().vocab_size);
    const std::vector<Answer> expected = whole.answers(requests);
    const int layers = whole.spec.num_layers;
    REQUIRE(layers >= 2);
    for (int host_layers = 1; host_layers <= layers; ++host_layers) {
      INFO(name << ", " << host_layers << " of " << layers << " layers below");
      DividedCore divided(name, host_layers, small_pool());
      CHECK(divided.spec.host_layers == host_layers);
      const std::vector<Answer> got = divided.answers(requests);
      for (std::size_t i = 0; i < got.size(); ++i) CHECK(equal_events(got[i].events, expected[i].events));
    }
  }
}

TEST_CASE("an adapter reaches the layers of both backends") {
  const LoraAdapter adapter = read_lora_adapter(open_adapter(kGolden + "lora/lora_qwen2_all"));
  DividedCore whole("models/qwen2", 0, small_pool()), divided("models/qwen2", 1, small_pool());
  const std::int64_t vocab = whole.core->info().vocab_size;
  const std::vector<Answer> plain = whole.answers(requests_for(vocab));
  const std::vector<Answer> expected = whole.answers(requests_for(vocab, whole.core->load_adapter(adapter)));
  const std::vector<Answer> got = divided.answers(requests_for(vocab, divided.core->load_adapter(adapter)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(equal_events(got[i].events, expected[i].events));
    CHECK(equal_events(got[i].events, plain[i].events) == (i % 2 == 0));
  }
}

TEST_CASE("families that cannot be divided say so") {
  for (const char* name : {"models/bloom", "models/chatglm1", "models/bert"}) {
    try {
      DividedCore divided(name, 1, small_pool());
      FAIL(name);
    } catch (const ConfigError& error) {
      CHECK(std::string(error.what()).find("gpu_layers") != std::string::npos);
    }
  }
}

TEST_CASE("the pool of a divided model is as large as its share fits on either side") {
  const KvSpec kSpec{.num_layers = 4, .num_kv_heads = 4, .head_dim = 8, .host_layers = 1};
  constexpr std::size_t kLayerBytes = 2 * 4 * 16 * 8 * 2;
  ModelInfo info;
  info.max_context = 1'000'000;
  EngineOptions options;
  options.kv_full_contexts = 0;
  options.kv_memory_fraction = 0.5;
  // Half of 600 layer blocks hold 100 blocks of three layers; half of 120 hold 60 of one.
  CHECK(plan_kv_cache(info, kSpec, options, 600 * kLayerBytes, 1000 * kLayerBytes).num_blocks == 100);
  CHECK(plan_kv_cache(info, kSpec, options, 600 * kLayerBytes, 120 * kLayerBytes).num_blocks == 60);
  options.kv_cache_bytes = 4 * kLayerBytes * 50;
  CHECK(plan_kv_cache(info, kSpec, options, 150 * kLayerBytes, 50 * kLayerBytes).num_blocks == 50);
  CHECK_THROWS_AS(plan_kv_cache(info, kSpec, options, 149 * kLayerBytes, 50 * kLayerBytes), MemoryError);
  CHECK_THROWS_AS(plan_kv_cache(info, kSpec, options, 150 * kLayerBytes, 49 * kLayerBytes), MemoryError);
}

}  // namespace
}  // namespace inferd
