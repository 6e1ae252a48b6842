// Sampler: the rules in order, then a draw that depends on (seed, position) and the row alone.
#include "engine/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "engine/sampler/philox.h"

namespace inferd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Changed logits stay within these bounds, so that differences between them stay finite.
constexpr float kLogitBound = 1e30f;
constexpr float kBanBias = -100.0f;
constexpr std::size_t kFirstTopPCandidates = 64;

float bounded(float logit) {
  return logit == -kInfinity ? logit : std::clamp(logit, -kLogitBound, kLogitBound);
}

bool greedy(const SamplingParams& params) { return !(params.temperature > 0.0f); }

}  // namespace

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
}

Sampler::Sampler(std::int64_t vocab_size)
    : row_(static_cast<std::size_t>(vocab_size)), weights_(static_cast<std::size_t>(vocab_size)) {
  block_sums_.reserve(row_.size() / kSumBlock + 1);
  candidates_.reserve(4096);
  candidate_weights_.reserve(4096);
}

float Sampler::logprob_of(TokenId token) const {
  return static_cast<float>(static_cast<double>(row_[static_cast<std::size_t>(token)]) -
                            static_cast<double>(raw_max_) - raw_log_sum_);
}

void Sampler::note_logprobs(int top, TokenEvent* out) {
  raw_max_ = row_max(row_);
  raw_log_sum_ = std::log(exp_weights(row_, raw_max_, 1.0f, nullptr, nullptr));
  out->top.clear();
  if (top <= 0) return;
  select_best(row_, static_cast<std::size_t>(std::min(top, kMaxTopLogprobs)), &candidates_);
  for (const Candidate& candidate : candidates_) out->top.push_back({candidate.id, logprob_of(candidate.id)});
}

bool Sampler::score(TokenId token, int top, TokenEvent* out) {
  if (!all_finite(row_)) return false;
  INFERD_CHECK(token >= 0 && static_cast<std::size_t>(token) < row_.size());
  note_logprobs(top, out);
  out->token = token;
  out->logprob = logprob_of(token);
  return true;
}

void Sampler::apply_rules(const SampleInput& input) {
  const SamplingParams& params = input.params;
  const auto in_row = [this](TokenId token) { return token >= 0 && static_cast<std::size_t>(token) < row_.size(); };
  for (const auto& [token, bias] : params.logit_bias) {
    if (!in_row(token)) continue;
    float& logit = row_[static_cast<std::size_t>(token)];
    logit = bias <= kBanBias ? -kInfinity : bounded(logit + bias);
  }
  for (const TokenId token : input.banned) {
    if (in_row(token)) row_[static_cast<std::size_t>(token)] = -kInfinity;
  }
  if (!has_penalties(params)) return;
  INFERD_CHECK(input.counts != nullptr);
  for (const TokenCounts::Entry& entry : input.counts->entries()) {
    float logit = row_[static_cast<std::size_t>(entry.token)];
    if (logit == -kInfinity) continue;
    // CTRL's rule (arXiv:1909.05858 §4.1), with the product for negative logits so that it always lowers them.
    if (params.repetition_penalty > 0.0f) {
      logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (entry.in_output > 0) {
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(entry.in_output);
    }
    row_[static_cast<std::size_t>(entry.token)] = bounded(logit);
  }
}

SampleResult Sampler::sample(const SampleInput& input, TokenEvent* out) {
  if (!all_finite(row_)) return SampleResult::not_finite;
  const bool wants_logprob = input.top_logprobs >= 0;
  *out = {};
  if (wants_logprob) note_logprobs(input.top_logprobs, out);
  // The sampled token's raw logit must survive the rules: remember those that they may change.
  std::vector<std::pair<TokenId, float>> changed;
  if (wants_logprob) {
    const auto remember = [&](TokenId token) {
      if (token >= 0 && static_cast<std::size_t>(token) < row_.size()) {
        changed.emplace_back(token, row_[static_cast<std::size_t>(token)]);
      }
    };
    for (const auto& [token, bias] : input.params.logit_bias) remember(token);
    if (has_penalties(input.params)) {
      for (const TokenCounts::Entry& entry : input.counts->entries()) remember(entry.token);
    }
  }
  apply_rules(input);
  const float max = row_max(row_);
  if (max == -kInfinity) return SampleResult::all_banned;
  out->token = greedy(input.params)
                   ? row_argmax(row_).id
                   : draw(input.params, max,
                          uniform_draw(static_cast<std::uint64_t>(input.params.seed),
                                       static_cast<std::uint64_t>(input.position)));
  if (wants_logprob) {
    for (const auto& [token, raw] : changed) {
      if (token == out->token) {
        row_[static_cast<std::size_t>(token)] = raw;
        break;
      }
    }
    out->logprob = logprob_of(out->token);
  }
  return SampleResult::token;
}

/// Draws with neither top_k nor top_p: in order of ids, block by block.
TokenId Sampler::draw_from_all(const SamplingParams& params, float max, double uniform) {
  double total = exp_weights(row_, max, params.temperature, weights_.data(), &block_sums_);
  if (params.min_p > 0.0f) {
    // The best candidate weighs 1. Dropped ones leave holes; the sums are taken again.
    total = 0.0;
    for (std::size_t block = 0; block < block_sums_.size(); ++block) {
      const std::size_t end = std::min(weights_.size(), (block + 1) * kSumBlock);
      double sum = 0.0;
      for (std::size_t i = block * kSumBlock; i < end; ++i) {
        if (weights_[i] < std::min(params.min_p, 1.0f)) weights_[i] = 0.0f;
        sum += static_cast<double>(weights_[i]);
      }
      block_sums_[block] = sum;
      total += sum;
    }
  }
  double left = uniform * total;
  std::size_t block = 0;
  std::size_t last_weighty = 0;
  for (std::size_t b = 0; b < block_sums_.size(); ++b) {
    if (block_sums_[b] > 0.0) last_weighty = b;
  }
  while (block < last_weighty && left >= block_sums_[block]) left -= block_sums_[block++];
  const std::size_t end = std::min(weights_.size(), (block + 1) * kSumBlock);
  std::size_t chosen = block * kSumBlock;
  for (std::size_t i = block * kSumBlock; i < end; ++i) {
    if (weights_[i] <= 0.0f) continue;
    chosen = i;  // rounding may leave a crumb of `left`: then the last one with weight is it
    left -= static_cast<double>(weights_[i]);
    if (left < 0.0) break;
  }
  return static_cast<TokenId>(chosen);
}

void Sampler::weigh_candidates(const SamplingParams& params, float max) {
  candidate_weights_.clear();
  for (const Candidate& candidate : candidates_) {
    candidate_weights_.push_back(std::exp(static_cast<double>((candidate.logit - max) / params.temperature)));
  }
}

/// Fills candidates_ and returns how many of them, best first, hold top_p of the weight that top_k left.
std::size_t Sampler::keep_top_p(const SamplingParams& params, float max) {
  const auto count_until = [this](double mass, double total) {
    double sum = 0.0;
    for (std::size_t i = 0; i < candidate_weights_.size(); ++i) {
      sum += candidate_weights_[i];
      if (sum >= mass * total) return i + 1;
    }
    return std::size_t{0};  // not reached
  };
  const double top_p = std::max(static_cast<double>(params.top_p), 0.0);
  if (params.top_k > 0 && static_cast<std::size_t>(params.top_k) < row_.size()) {
    select_best(row_, static_cast<std::size_t>(params.top_k), &candidates_);
    weigh_candidates(params, max);
    if (params.top_p >= 1.0f) return candidates_.size();
    double total = 0.0;
    for (const double weight : candidate_weights_) total += weight;
    const std::size_t kept = count_until(top_p, total);
    return kept > 0 ? kept : candidates_.size();
  }
  const double total = exp_weights(row_, max, params.temperature, nullptr, nullptr);
  for (std::size_t wanted = kFirstTopPCandidates;; wanted *= 8) {
    select_best(row_, wanted, &candidates_);
    weigh_candidates(params, max);
    if (const std::size_t kept = count_until(top_p, total); kept > 0) return kept;
    if (wanted >= row_.size()) return candidates_.size();
  }
}

TokenId Sampler::draw(const SamplingParams& params, float max, double uniform) {
  const bool top_k = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < row_.size();
  if (!top_k && !(params.top_p < 1.0f)) return draw_from_all(params, max, uniform);
  std::size_t kept = keep_top_p(params, max);
  const double min_weight = static_cast<double>(std::min(params.min_p, 1.0f));
  while (kept > 1 && candidate_weights_[kept - 1] < min_weight) --kept;
  double total = 0.0;
  for (std::size_t i = 0; i < kept; ++i) total += candidate_weights_[i];
  double left = uniform * total;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    left -= candidate_weights_[i];
    if (left < 0.0) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

}  // namespace inferd
