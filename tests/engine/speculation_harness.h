// Requests whose answers are easy to guess, and the check that guessing changes none of them.
#pragma once

#include "tests/engine/sim_harness.h"

namespace inferd {

/// Few tokens, so that sequences repeat themselves by chance and drafts are often right.
inline SimOptions repetitive_sim() {
  SimOptions sim = small_sim();
  sim.vocab_size = 6;
  sim.eos_token = 5;
  sim.eos_probability = 0.01;
  return sim;
}

inline Request repetitive_request(int i) {
  Request request = make_request(4 + (i * 13) % 60, 20 + 3 * i, i);
  for (TokenId& token : request.prompt) token %= 5;
  request.stop_token_ids = {5};
  request.top_logprobs = i % 4 - 1;
  request.sampling.temperature = i % 3 == 0 ? 0.0f : 0.3f + 0.1f * static_cast<float>(i % 7);
  request.sampling.top_p = i % 3 == 1 ? 0.9f : 1.0f;
  request.sampling.top_k = i % 4 == 1 ? 3 : 0;
  request.sampling.min_p = i % 5 == 1 ? 0.05f : 0.0f;
  request.sampling.repetition_penalty = i % 3 == 2 ? 1.2f : 1.0f;
  request.sampling.frequency_penalty = i % 6 == 2 ? 0.1f : 0.0f;
  request.sampling.presence_penalty = i % 6 == 4 ? 0.2f : 0.0f;
  if (i % 7 == 3) request.sampling.logit_bias = {{2, 1.5f}, {3, -100.0f}};
  request.min_output_tokens = i % 2 == 0 ? 9 : 0;
  if (i % 8 == 5) request.prompt_logprobs = 1;
  return request;
}

inline EngineOptions speculating(std::int64_t blocks, SpeculationMode mode = SpeculationMode::ngram) {
  EngineOptions options = small_options(blocks);
  options.max_concurrent_requests = 16;
  options.speculation.mode = mode;
  options.speculation.max_tokens = 6;
  return options;
}

/// Requests that come in while others run, each compared with itself alone. Returns the core's statistics.
inline DecoderStats check_all(const SimOptions& sim, const EngineOptions& options, int count,
                              const MakeDraft& draft = {}) {
  SimCore bench(options, sim, nullptr, draft);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < count; ++i) {
    requests.push_back(repetitive_request(i));
    streams.push_back(bench.submit(requests.back()));
    if (i % 3 == 2) bench.core.step();
  }
  bench.run();
  for (int i = 0; i < count; ++i) {
    INFO("request " << i);
    Answer answer;
    drain(*streams[static_cast<std::size_t>(i)], &answer);
    const Answer alone = answer_alone(sim, requests[static_cast<std::size_t>(i)], bench.core.context_length());
    CHECK(answer.tokens == alone.tokens);
    CHECK(equal_events(answer.events, alone.events));
    CHECK(answer.reason == alone.reason);
    CHECK(streams[static_cast<std::size_t>(i)]->stats().output_tokens ==
          static_cast<std::int64_t>(alone.tokens.size()));
  }
  CHECK(bench.core.stats().kv_blocks_used == 0);
  return bench.core.stats();
}

}  // namespace inferd
