// Sampler: from one row of raw logits to one token, on the host.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/sampler/row_math.h"
#include "engine/sampler/token_counts.h"

namespace inferd {

constexpr int kMaxTopLogprobs = 20;

/// True if any rule needs TokenCounts.
bool has_penalties(const SamplingParams& params);

/// Everything besides the row that a draw depends on; nothing of it belongs to another request.
struct SampleInput {
  const SamplingParams& params;
  const TokenCounts* counts = nullptr;   // may be null when has_penalties is false
  std::span<const TokenId> banned = {};  // stop ids below min_output_tokens
  // One bit a token, those beyond its end not set: others are banned. Null: all are allowed.
  std::optional<std::span<const std::uint64_t>> allowed = {};
  std::int64_t position = 0;  // number of output tokens so far
  int top_logprobs = -1;      // as in Request
};

enum class SampleResult { token, all_banned, not_finite };

/// Rules apply in this order: log-probabilities of the raw row are noted; logit_bias; bans and the mask; repetition,
/// presence and frequency penalties; temperature; top_k; top_p (over what top_k left); min_p (relative to the best);
/// draw, walking the ids that are left in rising order until the uniform number is used up. Engine thread only; reuses
/// its buffers. Owned by EngineCore.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocab_size);

  /// Where the caller puts the raw row before either call below; sample() changes it.
  std::span<float> row() { return row_; }
  /// Samples from row(). Sets *out on SampleResult::token.
  SampleResult sample(const SampleInput& input, TokenEvent* out);
  /// Log-probability of a given token and the best `top` under row(); false if the row is not finite.
  bool score(TokenId token, int top, TokenEvent* out);

 private:
  bool apply_rules(const SampleInput& input);
  void apply_mask(std::span<const std::uint64_t> allowed);
  void remember_changes(const SampleInput& input);
  TokenId draw(const SampleInput& input, float max);
  TokenId draw_from_row(const SamplingParams& params, float max, double uniform);
  TokenId draw_from_best(const SamplingParams& params, float max, double uniform);
  TokenId walk_row(double left) const;
  double gather(float least);
  double narrow_to_border(double wanted, float max, float temperature);
  void keep_top_p(double wanted, float max, float temperature);
  void note_logprobs(int top, TokenEvent* out);
  float logprob_of(TokenId token) const;

  std::vector<float> row_;
  std::vector<float> weights_;
  std::vector<double> block_sums_;
  std::vector<Candidate> candidates_, ordered_;
  std::vector<double> bucket_sums_;
  std::vector<std::pair<TokenId, float>> changed_;  // raw logits of the tokens that rules may change
  float raw_max_ = 0.0f;
  double raw_log_sum_ = 0.0;
};

}  // namespace inferd
