// What the engine's tests share: a core over the sim model, and the same request computed alone without any engine.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine_core.h"
#include "engine/sampler/sampler.h"
#include "engine/sim/sim_backend.h"
#include "engine/sim/sim_model.h"
#include "tests/catch.h"

namespace inferd {

struct Answer {
  std::vector<TokenId> tokens;
  std::vector<TokenEvent> events;
  FinishReason reason = FinishReason::none;
};

inline std::vector<EncodeInput> encode_inputs(const std::vector<std::vector<TokenId>>& ids) {
  std::vector<EncodeInput> inputs;
  for (const auto& one : ids) inputs.push_back({one, {}});
  return inputs;
}

inline bool equal_events(const std::vector<TokenEvent>& a, const std::vector<TokenEvent>& b) {
  const auto same_candidate = [](const TokenLogprob& x, const TokenLogprob& y) {
    return x.token == y.token && x.logprob == y.logprob;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const TokenEvent& x, const TokenEvent& y) {
    return x.token == y.token && x.logprob == y.logprob &&
           std::equal(x.top.begin(), x.top.end(), y.top.begin(), y.top.end(), same_candidate);
  });
}

/// The request as the sim model alone would answer it: no cache, no blocks, no batch.
inline Answer answer_alone(const SimOptions& sim, const Request& request, std::int64_t context) {
  SimHistory history(sim);
  TokenCounts counts;
  for (const TokenId token : request.prompt) {
    history.push(token);
    counts.add_prompt(token);
  }
  Sampler sampler(sim.vocab_size);
  Answer answer;
  std::optional<GrammarState> grammar;
  if (request.grammar != nullptr) grammar.emplace(request.grammar);
  const auto most =
      std::min<std::int64_t>(request.max_output_tokens, context - static_cast<std::int64_t>(request.prompt.size()));
  answer.reason = FinishReason::length;
  for (std::int64_t i = 0; i < most; ++i) {
    history.logits(sampler.row());
    TokenEvent event;
    const std::vector<TokenId> none;
    std::optional<std::span<const std::uint64_t>> allowed;
    if (grammar) allowed = grammar->allowed(request.stop_token_ids);
    const SampleResult result = sampler.sample({.params = request.sampling,
                                                .counts = &counts,
                                                .banned = i < request.min_output_tokens ? request.stop_token_ids : none,
                                                .allowed = allowed,
                                                .position = i,
                                                .top_logprobs = request.top_logprobs},
                                               &event);
    if (result != SampleResult::token) {
      answer.reason = result == SampleResult::all_banned ? FinishReason::stop : FinishReason::error;
      break;
    }
    answer.tokens.push_back(event.token);
    answer.events.push_back(event);
    history.push(event.token);
    counts.add_output(event.token);
    if (grammar) grammar->accept(event.token);
    const auto& stops = request.stop_token_ids;
    if (std::find(stops.begin(), stops.end(), event.token) != stops.end()) {
      answer.reason = FinishReason::stop;
      break;
    }
  }
  return answer;
}

/// Everything a stream holds now.
inline void drain(TokenStream& stream, Answer* answer) {
  TokenEvent event;
  while (stream.pop(&event, std::chrono::milliseconds(0)) == TokenStream::PopResult::token) {
    answer->tokens.push_back(event.token);
    answer->events.push_back(std::move(event));
  }
  answer->reason = stream.finish_reason();
}

inline SimOptions small_sim() {
  SimOptions sim;
  sim.vocab_size = 48;
  sim.max_context = 256;
  sim.printable = false;
  sim.eos_token = 47;
  sim.eos_probability = 0.02;
  return sim;
}

inline constexpr std::size_t kSimBlockBytes = 2 * 16 * 8 * 2;  // keys and values, 16 tokens, 8 elements of f16

inline EngineOptions small_options(std::int64_t blocks) {
  EngineOptions options;
  options.max_batch_tokens = 32;
  options.max_concurrent_requests = 8;
  options.max_queued_requests = 64;
  options.kv_cache_bytes = static_cast<std::size_t>(blocks) * kSimBlockBytes;
  return options;
}

/// Makes a draft model whose steps take time on the clock given.
using MakeDraft = std::function<std::unique_ptr<Model>(VirtualClock*)>;

/// A core on a virtual clock; on `device`, if there is one.
struct SimCore {
  explicit SimCore(const EngineOptions& options, const SimOptions& sim = small_sim(), Backend* device = nullptr,
                   const MakeDraft& draft = {})
      : core(make_sim_model(sim, &clock), device != nullptr ? *device : backend, options, clock,
             draft ? draft(&clock) : nullptr) {}
  std::shared_ptr<TokenStream> submit(Request request) {
    auto result = core.submit(std::move(request));
    REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
    return std::get<std::shared_ptr<TokenStream>>(result);
  }
  void run() {
    for (int steps = 0; core.size() > 0; ++steps) {
      REQUIRE(steps < 100000);
      core.step();
      core.check_integrity();
    }
  }
  SimBackend backend;
  VirtualClock clock;
  EngineCore core;
};

inline std::vector<TokenId> counting_prompt(std::int64_t length, TokenId first = 1, TokenId vocab = 47) {
  std::vector<TokenId> prompt;
  for (std::int64_t i = 0; i < length; ++i) {
    prompt.push_back(static_cast<TokenId>((first + i * 7) % vocab));
  }
  return prompt;
}

inline Request make_request(std::int64_t prompt_length, std::int64_t max_output, std::int64_t seed = 1) {
  Request request;
  request.prompt = counting_prompt(prompt_length, static_cast<TokenId>(seed % 40));
  request.max_output_tokens = max_output;
  request.sampling.seed = seed;
  request.stop_token_ids = {47};
  return request;
}

}  // namespace inferd
