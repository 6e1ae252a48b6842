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
constexpr std::size_t kTopPBuckets = 1400;  // 16 for each factor e, down to e^-87

float bounded(float logit) { return logit == -kInfinity ? logit : std::clamp(logit, -kLogitBound, kLogitBound); }

bool greedy(const SamplingParams& params) { return !(params.temperature > 0.0f); }

}  // namespace

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
}

Sampler::Sampler(std::int64_t vocab_size)
    : row_(static_cast<std::size_t>(vocab_size)), weights_(static_cast<std::size_t>(vocab_size)) {
  block_sums_.reserve(row_.size() / kSumBlock + 1);
  bucket_sums_.resize(kTopPBuckets);
  candidates_.reserve(4096);
}

float Sampler::logprob_of(TokenId token) const {
  return static_cast<float>(static_cast<double>(row_[static_cast<std::size_t>(token)]) - static_cast<double>(raw_max_) -
                            raw_log_sum_);
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
  out->token = greedy(input.params) ? row_argmax(row_).id : draw(input, max);
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

TokenId Sampler::draw(const SampleInput& input, float max) {
  const SamplingParams& params = input.params;
  const double uniform =
      uniform_draw(static_cast<std::uint64_t>(params.seed), static_cast<std::uint64_t>(input.position));
  const bool top_k = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < row_.size();
  return top_k ? draw_from_best(params, max, uniform) : draw_from_row(params, max, uniform);
}

/// The last candidate, best first, of those that hold top_p of the whole weight. weights_ are set.
Candidate Sampler::top_p_cutoff(const SamplingParams& params, float max, double total) {
  // Weights fall by a fixed ratio from bucket to bucket; only the bucket with the border is looked at closely.
  constexpr float kBucketsPerUnit = 16.0f;
  const auto bucket_of = [&](std::size_t id) {
    const float depth = (max - row_[id]) / params.temperature * kBucketsPerUnit;
    return std::min(static_cast<std::size_t>(depth), bucket_sums_.size() - 1);
  };
  std::fill(bucket_sums_.begin(), bucket_sums_.end(), 0.0);
  for (std::size_t id = 0; id < row_.size(); ++id) {
    if (weights_[id] > 0.0f) bucket_sums_[bucket_of(id)] += static_cast<double>(weights_[id]);
  }
  const double wanted = std::max(static_cast<double>(params.top_p), 0.0) * total;
  double mass = 0.0;
  std::size_t border = 0;
  for (std::size_t bucket = 0; bucket < bucket_sums_.size(); ++bucket) {
    if (bucket_sums_[bucket] <= 0.0) continue;
    border = bucket;
    if (mass + bucket_sums_[bucket] >= wanted) break;
    mass += bucket_sums_[bucket];
  }
  candidates_.clear();
  for (std::size_t id = 0; id < row_.size(); ++id) {
    if (weights_[id] > 0.0f && bucket_of(id) == border) {
      candidates_.push_back({row_[id], static_cast<std::int32_t>(id)});
    }
  }
  // Halves the bucket until one candidate is left: the better half either reaches the border or counts as a whole.
  std::size_t low = 0, high = candidates_.size();
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    const auto at = [this](std::size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(low), at(middle), at(high), better);
    double half = 0.0;
    for (std::size_t i = low; i < middle; ++i)
      half += static_cast<double>(weights_[static_cast<std::size_t>(candidates_[i].id)]);
    if (mass + half >= wanted) {
      high = middle;
    } else {
      mass += half;
      low = middle;
    }
  }
  return candidates_[low];
}

/// Without top_k: over the whole row, block by block.
TokenId Sampler::draw_from_row(const SamplingParams& params, float max, double uniform) {
  double total = exp_weights(row_, max, params.temperature, weights_.data(), &block_sums_);
  if (params.min_p > 0.0f || params.top_p < 1.0f) {
    const Candidate cutoff = params.top_p < 1.0f ? top_p_cutoff(params, max, total) : Candidate{-kInfinity, 0};
    const float min_weight = std::min(params.min_p, 1.0f);  // the best candidate weighs 1
    total = 0.0;
    for (std::size_t block = 0; block < block_sums_.size(); ++block) {
      const std::size_t end = std::min(weights_.size(), (block + 1) * kSumBlock);
      double sum = 0.0;
      for (std::size_t i = block * kSumBlock; i < end; ++i) {
        const bool dropped = weights_[i] < min_weight || better(cutoff, {row_[i], static_cast<std::int32_t>(i)});
        if (dropped) weights_[i] = 0.0f;
        sum += static_cast<double>(weights_[i]);
      }
      block_sums_[block] = sum;
      total += sum;
    }
  }
  double left = uniform * total;
  std::size_t block = 0, last_weighty = 0;
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

/// With top_k: only the k best are looked at.
TokenId Sampler::draw_from_best(const SamplingParams& params, float max, double uniform) {
  select_best(row_, static_cast<std::size_t>(params.top_k), &candidates_);
  const auto weight = [&](const Candidate& candidate) {
    return std::exp(static_cast<double>((candidate.logit - max) / params.temperature));
  };
  double total = 0.0;
  for (const Candidate& candidate : candidates_) total += weight(candidate);
  const double wanted = params.top_p < 1.0f ? std::max(static_cast<double>(params.top_p), 0.0) * total : total * 2.0;
  const double min_weight = static_cast<double>(std::min(params.min_p, 1.0f));
  double mass = 0.0;
  std::size_t kept = 0;
  for (; kept < candidates_.size(); ++kept) {
    const double w = weight(candidates_[kept]);
    if (kept > 0 && (mass >= wanted || w < min_weight)) break;
    mass += w;
  }
  std::sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(kept),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double left = uniform * mass;
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    left -= weight(candidates_[i]);
    if (left < 0.0) return candidates_[i].id;
  }
  return candidates_[kept - 1].id;
}

}  // namespace inferd
