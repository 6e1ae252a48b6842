// Real weights on the CUDA backend: SmolLM2's first two tokens, by the exact arithmetic and by the tensor cores'.
#include <cmath>
#include <cstdio>

#include "base/json.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/engine/golden_core.h"
#include "tests/models/model_harness.h"

namespace inferd {
namespace {

constexpr std::size_t kTokens = 2;

/// The largest difference of a chosen token's log-probability from float32's (tests/reference/make_fidelity.py).
double largest_error(ActivationMode mode, DType cache = DType::f16) {
  const Json golden = testing::read_golden(testing::golden_dir() / "fidelity/smollm2_greedy.json");
  const Json& expected = golden["cases"][0];
  EngineOptions options;
  options.max_batch_tokens = options.max_logit_rows = 8;
  options.max_concurrent_requests = 1;
  options.kv_cache_bytes = std::size_t{4} << 20;
  options.context_length = 64;
  options.kv_dtype = cache;
  const auto backend = make_cuda_backend({.activations = mode});
  SystemClock clock;
  EngineCore core(load_decoder("../../models/" + golden["model"].get<std::string>(), *backend, options), *backend,
                  options, clock);
  Request request;
  request.prompt = expected["prompt_ids"].get<std::vector<TokenId>>();
  request.max_output_tokens = kTokens;
  request.sampling.temperature = 0.0f;
  request.top_logprobs = 1;
  const Answer answer = finish(core, submit(core, request));
  REQUIRE(answer.events.size() == kTokens);
  double error = 0;
  for (std::size_t i = 0; i < kTokens; ++i) {
    CHECK(answer.events[i].token == expected["tokens"][i].get<TokenId>());
    error = std::max(error, std::fabs(answer.events[i].logprob - expected["logprobs"][i].get<double>()));
  }
  return error;
}

TEST_CASE("SmolLM2 answers on the GPU as float32 arithmetic does") {
  cuda::test::use_fake_gpu("eager=1");
  const double exact = largest_error(ActivationMode::f32), automatic = largest_error(ActivationMode::automatic);
  const double eighth = largest_error(ActivationMode::automatic, DType::q8_0);
  const double coarse = largest_error(ActivationMode::automatic, DType::fp8);
  std::printf("log-probabilities off by at most %.2g (exact), %.2g (automatic), %.2g (a q8_0 cache) and %.2g (fp8)\n",
              exact, automatic, eighth, coarse);
  CHECK(exact <= 2e-3);
  CHECK(automatic <= 1e-2);
  CHECK(eighth <= 2e-2);  // an element is off by up to 2^-8 of the largest of its run, eight times as far as in f16
  CHECK(coarse <= 1e-1);  // rows of normals are off 4.8 times as far as in q8_0
}

}  // namespace
}  // namespace inferd
