// A core over a golden checkpoint, and a mixture of requests to it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/golden_core.h"

namespace inferd {

inline EngineOptions options_with(std::int64_t blocks_bytes = 8 << 20) {
  EngineOptions options;
  options.max_batch_tokens = 48;
  options.max_concurrent_requests = 11;  // not a captured size itself
  options.kv_cache_bytes = static_cast<std::size_t>(blocks_bytes);
  options.max_adapters = 1;
  return options;
}

struct Run {
  Run(Backend& backend, const std::string& name, const EngineOptions& options)
      : core(std::make_unique<EngineCore>(load_decoder(name, backend, options), backend, options, clock)) {}
  std::vector<Answer> answers(int count, std::uint64_t adapter = 0, int longest = 50) {
    std::vector<Request> requests;
    for (int i = 0; i < count; ++i) {
      Request request;
      for (int t = 0; t < (i == 5 ? longest : 3 + (i * 37) % 90); ++t) {
        request.prompt.push_back(static_cast<TokenId>((i * 17 + t * 29 + 5) % core->info().vocab_size));
      }
      request.max_output_tokens = 6 + 3 * i;
      request.top_logprobs = 3;
      request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
      request.sampling.seed = i;
      request.adapter = i % 3 == 1 ? adapter : 0;
      requests.push_back(std::move(request));
    }
    return inferd::answers(*core, requests);
  }
  SystemClock clock;
  std::unique_ptr<EngineCore> core;
};

inline void check_equal(const std::vector<Answer>& got, const std::vector<Answer>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("request " << i);
    CHECK(equal_events(got[i].events, expected[i].events));
  }
}

}  // namespace inferd
