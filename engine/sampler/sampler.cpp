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
// Weights (of the best token: 1) at which the search for the border of top_p starts anew.
constexpr float kTopPLevels[] = {0x1p-6f, 0x1p-12f, 0x1p-24f, 0x1p-48f, 0.0f};
constexpr std::size_t kBuckets = 1400;  // 16 for each factor e, down to e^-87
constexpr std::size_t kFew = 4096, kDense = 64;

float bounded(float logit) { return logit == -kInfinity ? logit : std::clamp(logit, -kLogitBound, kLogitBound); }

bool greedy(const SamplingParams& params) { return !(params.temperature > 0.0f); }

}  // namespace

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
}

Sampler::Sampler(std::int64_t vocab_size)
    : row_(static_cast<std::size_t>(vocab_size)), weights_(static_cast<std::size_t>(vocab_size)) {
  block_sums_.reserve(row_.size() / kSumBlock + 1);
  candidates_.reserve(row_.size());
  ordered_.reserve(row_.size());
  bucket_sums_.resize(kBuckets);
}

float Sampler::logprob_of(TokenId token) const {
  return static_cast<float>(static_cast<double>(row_[static_cast<std::size_t>(token)]) - static_cast<double>(raw_max_) -
                            raw_log_sum_);
}

void Sampler::note_logprobs(int top, TokenEvent* out) {
  raw_log_sum_ = std::log(exp_weights(row_, raw_max_, 1.0f, nullptr, nullptr));
  out->top.clear();
  if (top <= 0) return;
  select_best(row_, static_cast<std::size_t>(std::min(top, kMaxTopLogprobs)), &candidates_);
  for (const Candidate& candidate : candidates_) out->top.push_back({candidate.id, logprob_of(candidate.id)});
}

bool Sampler::score(TokenId token, int top, TokenEvent* out) {
  if (!scan_row(row_, &raw_max_)) return false;
  INFERD_CHECK(token >= 0 && static_cast<std::size_t>(token) < row_.size());
  note_logprobs(top, out);
  out->token = token;
  out->logprob = logprob_of(token);
  return true;
}

void Sampler::apply_mask(std::span<const std::uint64_t> allowed) {
  constexpr std::size_t kBits = 64;
  for (std::size_t begin = 0; begin < row_.size(); begin += kBits) {
    const std::uint64_t word = begin / kBits < allowed.size() ? allowed[begin / kBits] : 0;
    if (word == ~std::uint64_t{0}) continue;
    const std::size_t end = std::min(begin + kBits, row_.size());
    for (std::size_t id = begin; id < end; ++id) {
      row_[id] = (word >> (id - begin) & 1) != 0 ? row_[id] : -kInfinity;
    }
  }
}

/// False if the row stayed as it was.
bool Sampler::apply_rules(const SampleInput& input) {
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
  if (input.allowed) apply_mask(*input.allowed);
  if (!has_penalties(params)) return !params.logit_bias.empty() || !input.banned.empty() || input.allowed;
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
  return true;
}

/// Notes the raw logits of the tokens that rules may change: the sampled one's must survive them.
void Sampler::remember_changes(const SampleInput& input) {
  const auto remember = [&](TokenId token) {
    if (token >= 0 && static_cast<std::size_t>(token) < row_.size()) {
      changed_.emplace_back(token, row_[static_cast<std::size_t>(token)]);
    }
  };
  changed_.clear();
  for (const auto& [token, bias] : input.params.logit_bias) remember(token);
  if (!has_penalties(input.params)) return;
  for (const TokenCounts::Entry& entry : input.counts->entries()) remember(entry.token);
}

SampleResult Sampler::sample(const SampleInput& input, TokenEvent* out) {
  if (!scan_row(row_, &raw_max_)) return SampleResult::not_finite;
  const bool wants_logprob = input.top_logprobs >= 0;
  *out = {};
  if (wants_logprob) {
    note_logprobs(input.top_logprobs, out);
    remember_changes(input);
  }
  const float max = apply_rules(input) ? row_max(row_) : raw_max_;
  if (max == -kInfinity) return SampleResult::all_banned;
  out->token = greedy(input.params) ? first_of(row_, max) : draw(input, max);
  if (wants_logprob) {
    for (const auto& [token, raw] : changed_) {
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

/// Sets candidates_ to the tokens that weigh `least` or more (0: anything), ids rising. Returns their weight.
/// weights_ and block_sums_ are set.
double Sampler::gather(float least) {
  const RowPasses& passes = row_passes();
  const float below = least > 0.0f ? std::nextafter(least, 0.0f) : 0.0f;
  candidates_.clear();
  double mass = 0.0;
  for (std::size_t block = 0; block < block_sums_.size(); ++block) {
    if (!(block_sums_[block] > static_cast<double>(below))) continue;  // nothing in it can weigh more than all of it
    const std::size_t end = std::min(weights_.size(), (block + 1) * kSumBlock);
    for (std::size_t id = block * kSumBlock; id < end;) {
      id = passes.next_above(weights_.data(), end, id, below);
      const std::size_t stop = std::min(end, id + kDense);  // where one is, others often are near
      for (; id < stop; ++id) {
        if (!(weights_[id] > below)) continue;
        candidates_.push_back({row_[id], static_cast<std::int32_t>(id)});
        mass += static_cast<double>(weights_[id]);
      }
    }
  }
  return mass;
}

/// Sets ordered_ to those of many candidates_ among which the border of top_p lies; returns the weight of all better
/// ones. Logits are put into buckets of equal width: only the bucket with the border is of interest.
double Sampler::narrow_to_border(double wanted, float max, float temperature) {
  const auto bucket_of = [&](float logit) {
    constexpr float kBucketsPerUnit = 16.0f;
    return std::min(static_cast<std::size_t>((max - logit) / temperature * kBucketsPerUnit), bucket_sums_.size() - 1);
  };
  std::fill(bucket_sums_.begin(), bucket_sums_.end(), 0.0);
  for (const Candidate& candidate : candidates_) {
    bucket_sums_[bucket_of(candidate.logit)] += static_cast<double>(weights_[static_cast<std::size_t>(candidate.id)]);
  }
  double mass = 0.0;
  std::size_t border = 0;
  for (std::size_t bucket = 0; bucket < bucket_sums_.size(); ++bucket) {
    if (bucket_sums_[bucket] <= 0.0) continue;
    mass += bucket_sums_[bucket];
    border = bucket;
    if (mass >= wanted) break;  // or never, by rounding: then the last one is it
  }
  mass -= bucket_sums_[border];
  ordered_.clear();
  for (const Candidate& candidate : candidates_) {
    if (bucket_of(candidate.logit) == border) ordered_.push_back(candidate);
  }
  return mass;
}

/// Sets candidates_ to the best tokens that together weigh `wanted`, ids rising.
void Sampler::keep_top_p(double wanted, float max, float temperature) {
  // The border lies among few: those above a weight low enough that they hold `wanted`.
  for (const float least : kTopPLevels) {
    if (gather(least) >= wanted) break;
  }
  const auto weight = [this](const Candidate& candidate) {
    return static_cast<double>(weights_[static_cast<std::size_t>(candidate.id)]);
  };
  // Halves them until one is left: the better half either reaches the border or counts as a whole.
  double mass = 0.0;
  if (candidates_.size() > kFew) {
    mass = narrow_to_border(wanted, max, temperature);
  } else {
    ordered_ = candidates_;
  }
  std::size_t low = 0, high = ordered_.size();
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    const auto at = [this](std::size_t i) { return ordered_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(low), at(middle), at(high), better);
    double half = 0.0;
    for (std::size_t i = low; i < middle; ++i) half += weight(ordered_[i]);
    if (mass + half >= wanted) {
      high = middle;
    } else {
      mass += half;
      low = middle;
    }
  }
  const Candidate cutoff = ordered_[low];
  std::erase_if(candidates_, [&](const Candidate& candidate) { return better(cutoff, candidate); });
}

/// The token at which the weights, ids rising, have used `left` up. weights_ and block_sums_ are set.
TokenId Sampler::walk_row(double left) const {
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

/// Without top_k: over the whole row.
TokenId Sampler::draw_from_row(const SamplingParams& params, float max, double uniform) {
  const double total = exp_weights(row_, max, params.temperature, weights_.data(), &block_sums_);
  const float min_weight = std::min(params.min_p, 1.0f);  // the best candidate weighs 1
  if (!(min_weight > 0.0f) && !(params.top_p < 1.0f)) return walk_row(uniform * total);
  if (params.top_p < 1.0f) {
    keep_top_p(std::max(static_cast<double>(params.top_p), 0.0) * total, max, params.temperature);
  } else {
    gather(min_weight);
  }
  double kept = 0.0;
  std::erase_if(candidates_, [&](const Candidate& candidate) {
    const float weight = weights_[static_cast<std::size_t>(candidate.id)];
    if (weight < min_weight) return true;
    kept += static_cast<double>(weight);
    return false;
  });
  double left = uniform * kept;
  for (std::size_t i = 0; i + 1 < candidates_.size(); ++i) {
    left -= static_cast<double>(weights_[static_cast<std::size_t>(candidates_[i].id)]);
    if (left < 0.0) return candidates_[i].id;
  }
  return candidates_.back().id;
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
