// What all attention kernels share: which rows and keys a block has, scores in base 2, and the merging of spans.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/dev/attention_params.h"
#include "kernels/cuda/dev/ptx.cuh"

namespace inferd::cuda {

constexpr float kMinusInfinity = -__builtin_huge_valf();
constexpr std::uint32_t kWarpMask = 0xffffffffu;

/// One sequence of a step.
struct SequenceRows {
  int first_row;       // of qkv and out
  int queries;         // tokens
  int context;         // keys in the cache
  int first_position;  // of the first query
  int prefix;          // keys all queries see
};

/// A step's sequence; without a cache its keys are its queries'.
template <bool kCached>
__device__ inline SequenceRows sequence_rows(const AttentionParams& p, int sequence) {
  SequenceRows s;
  s.first_row = p.query_starts[sequence];
  s.queries = p.query_starts[sequence + 1] - s.first_row;
  if constexpr (kCached) {
    s.context = p.context_lens[sequence];
    s.prefix = p.prefix_lens != nullptr ? p.prefix_lens[sequence] : 0;
  } else {
    s.context = s.queries;
    s.prefix = 0;
  }
  s.first_position = s.context - s.queries;
  return s;
}

/// Keys [low, high) that the query at a position sees.
struct KeyRange {
  int low, high;
};
template <bool kCached>
__device__ inline KeyRange visible_keys(const AttentionParams& p, const SequenceRows& s, int position) {
  if constexpr (!kCached) return {0, s.context};
  return {p.window > 0 ? max(0, position + 1 - p.window) : 0, min(s.context, max(position + 1, s.prefix))};
}

/// A head's ALiBi slope for scores in base 2.
__device__ inline float base2_slope(const AttentionParams& p, int head) {
  return p.alibi_slopes != nullptr ? kLog2E * p.alibi_slopes[head] : 0.0f;
}
/// q k * score_scale into a score in base 2: capped, biased by ALiBi. `offset` is key minus query.
__device__ inline float shape_score(const AttentionParams& p, float score, float slope, int offset) {
  if (p.cap > 0.0f) score = __fmaf_rn(-2.0f * p.cap, __fdividef(1.0f, 1.0f + ptx::exp2(score)), p.cap);  // c tanh
  if (p.alibi_slopes != nullptr) score = __fmaf_rn(slope, static_cast<float>(offset), score);
  return score;
}

/// Weights are 2^(score - reference); a row that has seen no key has the maximum -inf and must not subtract it.
__device__ inline float reference_of(float maximum) { return maximum == kMinusInfinity ? 0.0f : maximum; }

/// Softmax state of a row: the largest score and the sum of weights relative to it.
struct SoftmaxState {
  float maximum = kMinusInfinity;
  float sum = 0.0f;
};

/// Factors that merge a span's sums into a row's: row = row * keep + span * take. Every kernel merges by this function
/// and merge_value, spans ascending, so that a row has the same bits however its spans were shared out.
struct MergeFactors {
  float keep, take;
};
__device__ inline MergeFactors merge_span(SoftmaxState& row, const SoftmaxState& span) {
  const float maximum = fmaxf(row.maximum, span.maximum);
  const float reference = reference_of(maximum);
  const MergeFactors f = {ptx::exp2(row.maximum - reference), ptx::exp2(span.maximum - reference)};
  row.maximum = maximum;
  row.sum = __fmaf_rn(span.sum, f.take, __fmul_rn(row.sum, f.keep));
  return f;
}
__device__ inline float merge_value(float row, float span, MergeFactors f) {
  return __fmaf_rn(span, f.take, __fmul_rn(row, f.keep));
}

/// 1 / sum of weights; the addition turns -0, which depends on masked keys, into 0.
__device__ inline float divided(float value, float inverse_sum) { return __fmaf_rn(value, inverse_sum, 0.0f); }

/// Where a span's partial of a row goes: partial_states + 2 * index, partial_values + head_dim * index.
__device__ inline std::int64_t partial_index(const AttentionParams& p, int sequence, int query, int span, int head) {
  return ((static_cast<std::int64_t>(sequence) * p.split_queries + query) * p.spans + span) * p.num_heads + head;
}

}  // namespace inferd::cuda
