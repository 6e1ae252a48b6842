// Request: what a client asked of a decoder, immutable once submitted.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace inferd {

class TokenGrammar;

using TokenId = std::int32_t;

/// How the next token is chosen. Defaults are neutral. Ranges were checked by the caller (server) and are checked again
/// at submit for ids.
struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy
  int top_k = 0;             // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;                    // over prompt and output
  float presence_penalty = 0.0f;                      // over output
  float frequency_penalty = 0.0f;                     // over output
  std::vector<std::pair<TokenId, float>> logit_bias;  // ≤ -100 bans
  std::int64_t seed = 0;                              // always set: the server draws one when the client gave none
};

struct Request {
  std::string id;               // for logs
  std::vector<TokenId> prompt;  // not empty, every id in [0, vocab_size)
  SamplingParams sampling;
  std::int64_t max_output_tokens = 0;   // the engine clamps prompt + output to the context; 0: only prompt_logprobs
  std::int64_t min_output_tokens = 0;   // stop ids are banned before
  std::vector<TokenId> stop_token_ids;  // ends with FinishReason::stop; the token is reported
  bool ignore_eos = false;              // stop_token_ids of the model (not the client's) were left out by the server
  int top_logprobs = -1;                // -1: none; 0: the sampled token's; k: the best k too (≤ 20)
  int prompt_logprobs = -1;             // likewise for each prompt token but the first
  int priority = 0;                     // lower runs earlier
  std::optional<TimePoint> deadline;    // ends with FinishReason::deadline
  std::uint64_t adapter = 0;            // as Engine::load_adapter named it; 0: none
  std::shared_ptr<const TokenGrammar> grammar;  // the texts that the output may be; null: any
  std::string cache_salt;                       // prefix cache entries are shared only under equal salts
};

enum class FinishReason {
  none,       // still running
  stop,       // a stop token
  length,     // max_output_tokens or the context's end
  cancelled,  // the client went away
  deadline,
  error,          // NaN/Inf in this request's logits
  blocked,        // its grammar and its bans together allow no token
  shutdown,       // drain deadline passed
  engine_failed,  // the engine gave up, whatever this request was: see Engine::failure
};

/// Why a request was not admitted.
struct Rejection {
  enum class Kind { queue_full, prompt_too_long, never_fits, draining, bad_token, no_adapter, no_prompt_logprobs } kind;
  std::int64_t limit = 0;  // context tokens or queue length
  std::int64_t given = 0;
};

/// log-probability of one candidate, natural log of softmax of the raw logits.
struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;
};

/// One sampled token.
struct TokenEvent {
  TokenId token = 0;
  float logprob = 0.0f;           // set if top_logprobs ≥ 0
  std::vector<TokenLogprob> top;  // best first
};

}  // namespace inferd
