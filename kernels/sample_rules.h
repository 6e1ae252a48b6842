// How one request's tokens are drawn, as it lies in device memory from step to step.
#pragma once

#include <cstdint>

namespace inferd {

/// Added to a token's logit; -100 or less bans it.
struct TokenBias {
  std::int32_t token;
  float bias;
  float raw;  // scratch of the op
};

/// A token that the request has seen.
struct TokenCount {
  std::int32_t token;
  std::int32_t in_output;  // 0: only in the prompt
  float raw;               // scratch of the op
};

/// Lists are in device memory and name every token once, each below the vocabulary's size.
struct SampleRules {
  std::uint64_t seed = 0;
  std::int64_t position = 0;  // output tokens so far; one more after each token drawn
  float temperature = 1.0f;   // not above 0: the best token
  float top_p = 1.0f;
  float min_p = 0.0f;
  std::int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::int32_t top_logprobs = -1;  // -1: none; 0: the drawn token's; k: the best k too (at most kSampleTopLogprobs)
  TokenBias* biases = nullptr;
  std::int32_t* banned = nullptr;  // tokens that may not be drawn before position banned_until
  TokenCount* counts = nullptr;    // for the penalties; the drawn token is counted, at the end if it is new
  std::int64_t banned_until = 0;
  std::int32_t num_biases = 0;
  std::int32_t num_banned = 0;
  std::int32_t num_counts = 0;
  std::int32_t counts_capacity = 0;  // new tokens beyond it are not counted
};

enum class SampleStatus : std::int32_t { token, all_banned, not_finite };

inline constexpr int kSampleTopLogprobs = 20;

}  // namespace inferd
