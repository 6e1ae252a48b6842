// Attention by plain f32 arithmetic, for every head size and cache type; and the merging of spans.
#include "kernels/cuda/dev/attention.cuh"
#include "kernels/cuda/dev/fp8_pages.cuh"
#include "kernels/cuda/dev/q8_pages.cuh"
#include "kernels/cuda/dev/rows.cuh"

namespace inferd::cuda {
namespace {

// A warp has 4 of a block's rows; a lane one of its keys.
constexpr int kRows = kFmaRows;
constexpr int kWarpRows = 4;
constexpr int kKeys = kFmaKeys;
constexpr int kThreads = 128;
constexpr int kLoaders = 8;  // threads that load one row together
constexpr int kWeightStride = kKeys + 4;
constexpr int kColumnGroups = kMaxHeadDim / 128;  // of 4 columns a lane

/// Keys or values of one kv head and sequence.
template <typename T, bool kCached>
struct KvRows {
  const T* base;
  const std::int32_t* table;
  std::int64_t stride;  // elements between blocks, or tokens

  __device__ KvRows(const AttentionParams& p, const void* kv, const SequenceRows& s, int sequence, int kv_head)
      : base(static_cast<const T*>(kv)), table(nullptr) {
    if constexpr (kCached) {
      table = p.block_tables + sequence * p.table_stride;
      stride = static_cast<std::int64_t>(p.num_kv_heads) * kPageKeys * p.head_dim;
      base += kv_head * kPageKeys * p.head_dim;
    } else {
      stride = p.kv_stride;
      base += s.first_row * stride + kv_head * p.head_dim;
    }
  }
  __device__ const T* row(int key, int head_dim) const {
    if constexpr (kCached) return base + table[key / kPageKeys] * stride + key % kPageKeys * head_dim;
    return base + key * stride;
  }
};

template <typename T>
__device__ inline float4 four_of(const T* row, int d) {
  return widen(row + d);
}
__device__ inline float4 four_of(const Q8Row& row, int d) { return widen(row, d); }
__device__ inline float4 four_of(const Fp8Row& row, int d) { return widen(row, d); }

/// Likewise of pages with scales behind their codes.
template <typename Row>
  requires requires { Row::page_bytes(0, 0); }
struct KvRows<Row, true> {
  const std::uint8_t* base;
  const std::int32_t* table;
  int num_kv_heads, kv_head;

  __device__ KvRows(const AttentionParams& p, const void* kv, const SequenceRows&, int sequence, int kv_head)
      : base(static_cast<const std::uint8_t*>(kv)),
        table(p.block_tables + sequence * p.table_stride),
        num_kv_heads(p.num_kv_heads),
        kv_head(kv_head) {}
  __device__ Row row(int key, int head_dim) const {
    const std::int64_t block = table[key / kPageKeys];
    const std::uint8_t* page = base + (block * num_kv_heads + kv_head) * Row::page_bytes(kPageKeys, head_dim);
    return Row::of(page, kPageKeys, key % kPageKeys, head_dim);
  }
};

/// The keys [first, first + kKeys) into shared memory in f32, zeros from `end` on.
template <typename T, bool kCached>
__device__ inline void load_keys(const KvRows<T, kCached>& from, int first, int end, int head_dim, float* to) {
  for (int key = threadIdx.x / kLoaders; key < kKeys; key += kThreads / kLoaders) {
    float* row = to + key * (head_dim + 4);
    const bool there = first + key < end;
    const auto source = from.row(min(first + key, end - 1), head_dim);
    for (int d = threadIdx.x % kLoaders * 4; d < head_dim; d += kLoaders * 4) {
      *reinterpret_cast<float4*>(row + d) = there ? four_of(source, d) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }
}

/// One row's part of what a warp knows of its rows.
struct Row {
  KeyRange keys;
  int position;
  float slope;  // base 2
};

/// Sums of a warp's rows: lane l has columns 4 l + 128 c.
struct Values {
  float4 at[kColumnGroups][kWarpRows];
  __device__ void clear() {
#pragma unroll
    for (auto& group : at) {
#pragma unroll
      for (float4& v : group) v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
  }
};

__device__ inline void multiply_add(float4& sum, float weight, const float4& value) {
  sum.x = __fmaf_rn(weight, value.x, sum.x);
  sum.y = __fmaf_rn(weight, value.y, sum.y);
  sum.z = __fmaf_rn(weight, value.z, sum.z);
  sum.w = __fmaf_rn(weight, value.w, sum.w);
}

__device__ inline float4 merge_values(const float4& v, const float4& span, MergeFactors f) {
  return make_float4(merge_value(v.x, span.x, f), merge_value(v.y, span.y, f), merge_value(v.z, span.z, f),
                     merge_value(v.w, span.w, f));
}
__device__ inline float4 divided_values(const float4& v, float inverse) {
  return make_float4(divided(v.x, inverse), divided(v.y, inverse), divided(v.z, inverse), divided(v.w, inverse));
}

template <typename Function>
__device__ inline void each_column_group(int head_dim, Function&& function) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int c = 0; c < kColumnGroups; ++c) {
    if (lane * 4 + c * 128 < head_dim) function(c, lane * 4 + c * 128);
  }
}

/// Scores of 4 rows for the lane's key: d ascending.
__device__ inline void score_key(const float* q, const float* key, int head_dim, float (&scores)[kWarpRows]) {
#pragma unroll
  for (float& score : scores) score = 0.0f;
  for (int d = 0; d < head_dim; d += 4) {
    const float4 k = *reinterpret_cast<const float4*>(key + d);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      const float4 x = *reinterpret_cast<const float4*>(q + r * (head_dim + 4) + d);
      scores[r] = __fmaf_rn(x.x, k.x, scores[r]);
      scores[r] = __fmaf_rn(x.y, k.y, scores[r]);
      scores[r] = __fmaf_rn(x.z, k.z, scores[r]);
      scores[r] = __fmaf_rn(x.w, k.w, scores[r]);
    }
  }
}

/// Turns a tile's scores into weights in shared memory; brings the state, and the sums by it, up to date.
__device__ inline void weigh_row(float score, SoftmaxState& state, float* weights, float& correction) {
  float maximum = score;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) maximum = fmaxf(maximum, __shfl_xor_sync(kWarpMask, maximum, step));
  maximum = fmaxf(maximum, state.maximum);
  const float reference = reference_of(maximum);
  const float weight = ptx::exp2(score - reference);
  correction = ptx::exp2(state.maximum - reference);
  weights[threadIdx.x % 32] = weight;
  float sum = weight;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(kWarpMask, sum, step));
  state.maximum = maximum;
  state.sum = __fmaf_rn(state.sum, correction, sum);
}

/// sums += weights values: keys ascending.
__device__ inline void add_values(const float* weights, const float* values, int head_dim, Values& sums) {
  for (int key = 0; key < kKeys; key += 4) {
    float4 weight[kWarpRows];
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      weight[r] = *reinterpret_cast<const float4*>(weights + r * kWeightStride + key);
    }
    each_column_group(head_dim, [&](int c, int column) {
      const float* from = values + key * (head_dim + 4) + column;
      const auto add = [&](int k, float float4::*part) {
        const float4 value = *reinterpret_cast<const float4*>(from + k * (head_dim + 4));
#pragma unroll
        for (int r = 0; r < kWarpRows; ++r) multiply_add(sums.at[c][r], weight[r].*part, value);
      };
      add(0, &float4::x);
      add(1, &float4::y);
      add(2, &float4::z);
      add(3, &float4::w);
    });
  }
}

/// What a warp has to know of its block to store rows.
struct BlockRows {
  SequenceRows sequence;
  int sequence_index;
  int group;
  int kv_head;
  int first_row;  // of the warp, within the sequence

  __device__ bool has(int r) const { return first_row + r < sequence.queries * group; }
  __device__ int query(int r) const { return (first_row + r) / group; }
  __device__ int head(int r) const { return kv_head * group + (first_row + r) % group; }
};

__device__ inline void write_partials(const AttentionParams& p, const BlockRows& block,
                                      const SoftmaxState (&span)[kWarpRows], const Values& sums) {
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    if (!block.has(r)) break;
    const std::int64_t index = partial_index(p, block.sequence_index, block.query(r), blockIdx.z, block.head(r));
    if (threadIdx.x % 32 == 0) {
      p.partial_states[index * 2] = span[r].maximum;
      p.partial_states[index * 2 + 1] = span[r].sum;
    }
    each_column_group(p.head_dim, [&](int c, int column) {
      *reinterpret_cast<float4*>(p.partial_values + index * p.head_dim + column) = sums.at[c][r];
    });
  }
}

/// Merges a span into the row's sums, which the block keeps in `out` until the last span; makes room for the next.
__device__ inline void merge_into_out(const AttentionParams& p, const BlockRows& block, SoftmaxState (&span)[kWarpRows],
                                      SoftmaxState (&total)[kWarpRows], Values& sums, bool first, bool last) {
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    if (!block.has(r)) break;
    const MergeFactors f = merge_span(total[r], span[r]);
    const float inverse = __frcp_rn(total[r].sum);
    float* out = p.out + (block.sequence.first_row + block.query(r)) * p.out_stride + block.head(r) * p.head_dim;
    each_column_group(p.head_dim, [&](int c, int column) {
      float4* at = reinterpret_cast<float4*>(out + column);
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (!first) v = *at;
      v = merge_values(v, sums.at[c][r], f);
      const float4 result = divided_values(v, inverse);
      *at = last ? result : v;
    });
    span[r] = {};
  }
  sums.clear();
}

/// The results of a row that was summed as a whole.
__device__ inline void divide_into_out(const AttentionParams& p, const BlockRows& block,
                                       const SoftmaxState (&whole)[kWarpRows], const Values& sums) {
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    if (!block.has(r)) break;
    const float inverse = __frcp_rn(whole[r].sum);
    float* out = p.out + (block.sequence.first_row + block.query(r)) * p.out_stride + block.head(r) * p.head_dim;
    each_column_group(p.head_dim, [&](int c, int column) {
      *reinterpret_cast<float4*>(out + column) = divided_values(sums.at[c][r], inverse);
    });
  }
}

template <typename T, bool kCached>
__device__ inline void attend(const AttentionParams& p) {
  extern __shared__ float4 shared[];
  const int head_dim = p.head_dim, stride = head_dim + 4;
  float* q = reinterpret_cast<float*>(shared);  // [kRows, stride]
  float* tile = q + kRows * stride;             // [kKeys, stride]: keys, then values
  float* weights = tile + kKeys * stride;       // [kRows, kWeightStride]

  const int sequence = blockIdx.y;
  const SequenceRows s = sequence_rows<kCached>(p, sequence);
  const int group = p.num_heads / p.num_kv_heads;
  const int kv_head = blockIdx.x % p.num_kv_heads;
  const int first_row = blockIdx.x / p.num_kv_heads * kRows, num_rows = s.queries * group;
  const bool split = kCached && p.split != 0;
  if (first_row >= num_rows || (kCached && (s.queries <= p.split_queries) != split)) return;
  const int last_row = min(first_row + kRows, num_rows) - 1;
  int first_key = visible_keys<kCached>(p, s, s.first_position + first_row / group).low;
  int end_key = visible_keys<kCached>(p, s, s.first_position + last_row / group).high;
  if (split) {
    first_key = max(first_key, static_cast<int>(blockIdx.z) * kSpanKeys);
    end_key = min(end_key, (static_cast<int>(blockIdx.z) + 1) * kSpanKeys);
    if (first_key >= end_key) return;
  }

  const int loaded_row = threadIdx.x / kLoaders;
  for (int d = threadIdx.x % kLoaders * 4; d < head_dim; d += kLoaders * 4) {
    const int row = first_row + loaded_row;
    float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row < num_rows) {
      value = widen(p.q + (s.first_row + row / group) * p.q_stride + (kv_head * group + row % group) * head_dim + d);
    }
    *reinterpret_cast<float4*>(q + loaded_row * stride + d) = value;
  }

  const int warp_row = threadIdx.x / 32 * kWarpRows, lane = threadIdx.x % 32;
  const bool busy = first_row + warp_row < num_rows;
  const BlockRows block = {s, sequence, group, kv_head, first_row + warp_row};
  Row rows[kWarpRows];
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    const int row = min(first_row + warp_row + r, num_rows - 1);
    rows[r].position = s.first_position + row / group;
    rows[r].keys = visible_keys<kCached>(p, s, rows[r].position);
    if constexpr (kCached) rows[r].slope = base2_slope(p, kv_head * group + row % group);
  }
  const KvRows<T, kCached> keys(p, p.keys, s, sequence, kv_head), values(p, p.values, s, sequence, kv_head);
  SoftmaxState span[kWarpRows], total[kWarpRows];
  Values sums;
  sums.clear();
  bool merged = false;
  for (int first = first_key / kKeys * kKeys; first < end_key; first += kKeys) {
    load_keys(keys, first, s.context, head_dim, tile);
    __syncthreads();
    if (busy) {
      float scores[kWarpRows];
      score_key(q + warp_row * stride, tile + lane * stride, head_dim, scores);
      float corrections[kWarpRows];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) {
        const int key = first + lane;
        float score = __fmul_rn(scores[r], p.score_scale);
        if constexpr (kCached) score = shape_score(p, score, rows[r].slope, key - rows[r].position);
        const bool seen = key >= rows[r].keys.low && key < rows[r].keys.high;
        weigh_row(seen ? score : kMinusInfinity, span[r], weights + (warp_row + r) * kWeightStride, corrections[r]);
      }
#pragma unroll
      for (int c = 0; c < kColumnGroups; ++c) {
#pragma unroll
        for (int r = 0; r < kWarpRows; ++r) {
          float4& v = sums.at[c][r];
          v = make_float4(v.x * corrections[r], v.y * corrections[r], v.z * corrections[r], v.w * corrections[r]);
        }
      }
    }
    __syncthreads();
    load_keys(values, first, s.context, head_dim, tile);
    __syncthreads();
    if (busy) {
      add_values(weights + warp_row * kWeightStride, tile, head_dim, sums);
      const bool last = first + kKeys >= end_key;
      if constexpr (!kCached) {  // no one cuts these rows into spans
        if (last) divide_into_out(p, block, span, sums);
      } else if (last && split) {
        write_partials(p, block, span, sums);
      } else if (last || (first + kKeys) % kSpanKeys == 0) {
        merge_into_out(p, block, span, total, sums, !merged, last);
        merged = true;
      }
    }
    __syncthreads();
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 3) attention_fma_f32(const __grid_constant__ AttentionParams p) {
  attend<float, true>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3) attention_fma_f16(const __grid_constant__ AttentionParams p) {
  attend<__half, true>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3) attention_fma_bf16(const __grid_constant__ AttentionParams p) {
  attend<__nv_bfloat16, true>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3) attention_fma_q8_0(const __grid_constant__ AttentionParams p) {
  attend<Q8Row, true>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3) attention_fma_fp8(const __grid_constant__ AttentionParams p) {
  attend<Fp8Row, true>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3) encoder_attention_fma(const __grid_constant__ AttentionParams p) {
  attend<float, false>(p);
}

/// Merges the partials of a row, one warp a head: grid (heads / 4, sequences * split_queries).
extern "C" __global__ void __launch_bounds__(kThreads) attention_combine(const __grid_constant__ AttentionParams p) {
  const int sequence = blockIdx.y / p.split_queries, query = blockIdx.y % p.split_queries;
  const int head = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
  const SequenceRows s = sequence_rows<true>(p, sequence);
  if (head >= p.num_heads || query >= s.queries || s.queries > p.split_queries) return;
  const KeyRange keys = visible_keys<true>(p, s, s.first_position + query);
  SoftmaxState total;
  float4 sums[kColumnGroups] = {};
  int span = keys.low / kSpanKeys;
  do {
    const std::int64_t index = partial_index(p, sequence, query, span, head);
    SoftmaxState state;
    state.maximum = p.partial_states[index * 2];
    state.sum = p.partial_states[index * 2 + 1];
    const MergeFactors f = merge_span(total, state);
    each_column_group(p.head_dim, [&](int c, int column) {
      const float4 w = *reinterpret_cast<const float4*>(p.partial_values + index * p.head_dim + column);
      sums[c] = merge_values(sums[c], w, f);
    });
  } while (++span * kSpanKeys < keys.high);
  float* out = p.out + (s.first_row + query) * p.out_stride + head * p.head_dim;
  const float inverse = __frcp_rn(total.sum);
  each_column_group(p.head_dim, [&](int c, int column) {
    *reinterpret_cast<float4*>(out + column) = divided_values(sums[c], inverse);
  });
}

}  // namespace inferd::cuda
