// Attention on tensor cores: 16 rows of queries to an mma, 64 keys to a tile. attend_tiles has a warp (two for wide
// heads) for each 16 rows and all spans; attend_spans has four warps for the same 16 rows and one span. Both add in the same order: scores over
// d in steps of 16, weights and values over keys in steps of 16, tiles and spans ascending.
#pragma once

#include "kernels/cuda/dev/activation_out.cuh"
#include "kernels/cuda/dev/attention.cuh"
#include "kernels/cuda/dev/kv_tiles.cuh"

namespace inferd::cuda {

/// Warps of attend_tiles that share the columns of the same 16 rows: what two sets of sums in registers demand. Each
/// computes all scores.
template <int kDim>
constexpr int kColumnWarps = kMmaWarps * kMmaRows / tile_rows(kDim, ptx::kAsyncCopies ? 80 : 75);

template <typename T>
__device__ inline void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const std::uint32_t b[2] = {b0, b1};
  if constexpr (sizeof(T) == 2 && std::is_same_v<T, __half>) {
    ptx::mma_f16(d, a, b);
  } else {
#if __CUDA_ARCH__ >= 800
    ptx::mma_bf16(d, a, b);
#endif
  }
}

template <typename T>
__device__ inline std::uint32_t pack(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const std::uint32_t&>(pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const std::uint32_t&>(pair);
  }
}
/// Two ones: the column of values whose sums are the sums of the weights.
template <typename T>
constexpr std::uint32_t kOnes = std::is_same_v<T, __half> ? 0x3c003c00u : 0x3f803f80u;

/// What turns a row's products into scores in base 2.
struct RowScale {
  float factor;
  float slope;  // of ALiBi
};

/// Rounds query rows [first, first + count) of a block to T in shared memory. f16 rows are first multiplied by a power of two that puts their largest element into [2^13, 2^14).
template <typename Tiles>
__device__ inline void load_queries(const AttentionParams& p, const SequenceRows& s, int group, int kv_head,
                                    int block_row, int first, int count, typename Tiles::Element* to,
                                    RowScale* scales) {
  using T = typename Tiles::Element;
  constexpr int kDim = Tiles::kDim;
  constexpr int kLaneQuads = kDim == 64 ? 1 : 2;  // of 4 elements, kQuads apart
  constexpr int kQuads = kDim / 4 / kLaneQuads;
  constexpr int kLanes = kQuads <= 16 ? 16 : 32;  // of a row
  const int lane = threadIdx.x % 32, quad = lane % kLanes;
  for (int row = first + lane / kLanes; row < first + count; row += 32 / kLanes) {
    const int r = block_row + row;
    float4 x[kLaneQuads] = {};
    if (r < s.queries * group && quad < kQuads) {
      const float* from = p.q + (s.first_row + r / group) * p.q_stride + (kv_head * group + r % group) * kDim;
#pragma unroll
      for (int i = 0; i < kLaneQuads; ++i) {
        const int at = quad + i * kQuads;  // of the row in shared memory
        x[i] = reinterpret_cast<const float4*>(from)[Tiles::chunk_at(at / 2) * 2 + at % 2];
      }
    }
    F16RowScale scale = {1.0f, 1.0f};
    if constexpr (std::is_same_v<T, __half>) {
      float largest = 0.0f;
#pragma unroll
      for (const float4& v : x) {
        largest = fmaxf(fmaxf(fmaxf(largest, fabsf(v.x)), fmaxf(fabsf(v.y), fabsf(v.z))), fabsf(v.w));
      }
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(kWarpMask, largest, step));
      }
      scale = f16_row_scale(largest);
    }
    if (quad < kQuads) {
      const float up = scale.inverse;
#pragma unroll
      for (int i = 0; i < kLaneQuads; ++i) {
        const int at = quad + i * kQuads;
        ptx::store_2_shared(to + SharedRows<kDim>::at(row, at / 2) + at % 2 * 4, pack<T>(x[i].x * up, x[i].y * up),
                            pack<T>(x[i].z * up, x[i].w * up));
      }
    }
    if (quad == 0) scales[row] = {p.score_scale * scale.scale, base2_slope(p, kv_head * group + r % group)};
  }
}

/// Products of 16 rows with 8 kTiles keys: lane 4 g + t has rows g, g + 8 and keys 8 j + 2 t, + 1 of tile j.
template <typename T, int kDim, int kTiles>
__device__ inline void multiply_keys(const T* q, const T* keys, float (&scores)[kTiles][4]) {
  const int lane = ptx::recomputed(threadIdx.x % 32);
#pragma unroll
  for (auto& tile : scores) {
#pragma unroll
    for (float& score : tile) score = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    std::uint32_t a[4];
    ptx::load_matrix_x4(a, q + SharedRows<kDim>::at(lane % 16, step * 2 + lane / 16));
#pragma unroll
    for (int j = 0; j < kTiles; j += 2) {
      std::uint32_t b[4];
      ptx::load_matrix_x4(b, keys + SharedRows<kDim>::at(j * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
      mma<T>(scores[j], a, b[0], b[1]);
      mma<T>(scores[j + 1], a, b[2], b[3]);
    }
  }
}

/// Shapes and masks products of the lane's rows g and g + 8 of `scales`; factor becomes what still multiplies them, maximum the largest of the warp's per row.
template <int kTiles>
__device__ inline void shape_scores(const AttentionParams& p, const SequenceRows& s, const RowScale* scales,
                                    const int (&position)[2], int first_key, bool masked, float (&scores)[kTiles][4], float (&factor)[2], float (&maximum)[2]) {
  const int first = first_key + threadIdx.x % 4 * 2;
  const RowScale scale[2] = {scales[threadIdx.x % 32 / 4], scales[threadIdx.x % 32 / 4 + 8]};
  factor[0] = scale[0].factor;
  factor[1] = scale[1].factor;
  if (p.cap > 0.0f || p.alibi_slopes != nullptr) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int half = e / 2;
        scores[j][e] = shape_score(p, __fmul_rn(scores[j][e], factor[half]), scale[half].slope,
                                   first + j * 8 + e % 2 - position[half]);
      }
    }
    factor[0] = 1.0f;
    factor[1] = 1.0f;
  }
  if (masked) {
    const KeyRange keys[2] = {visible_keys<true>(p, s, position[0]), visible_keys<true>(p, s, position[1])};
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = first + j * 8 + e % 2;
        if (key < keys[e / 2].low || key >= keys[e / 2].high) scores[j][e] = kMinusInfinity;
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float m = kMinusInfinity;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) m = fmaxf(m, fmaxf(scores[j][half * 2], scores[j][half * 2 + 1]));
    m = fmaxf(m, __shfl_xor_sync(kWarpMask, m, 1));
    maximum[half] = fmaxf(m, __shfl_xor_sync(kWarpMask, m, 2));
  }
}

/// Takes a tile's maximum into the row's: what the sums so far are multiplied by, and what scores are relative to.
struct Rescale {
  float correction, reference;
};
__device__ inline Rescale take_maximum(float& row, float tile, float factor) {
  const float maximum = fmaxf(row, __fmul_rn(tile, factor));
  Rescale r;
  r.reference = reference_of(maximum);
  r.correction = ptx::exp2(row - r.reference);
  row = maximum;
  return r;
}

__device__ inline float weight_of(float score, float factor, float reference) {
  return ptx::exp2(__fmaf_rn(score, factor, -reference));
}

__device__ inline void rescale(float (&sums)[4], const Rescale (&r)[2]) {
#pragma unroll
  for (int e = 0; e < 4; ++e) sums[e] = __fmul_rn(sums[e], r[e / 2].correction);
}

/// Sums of a lane's rows over one span: kTiles tiles of 8 columns, and the weights (the same in all columns).
template <int kTiles>
struct MmaSums {
  float maximum[2];
  float weights[4];
  float values[kTiles][4];
  __device__ void clear() {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      maximum[e / 2] = kMinusInfinity;
      weights[e] = 0.0f;
#pragma unroll
      for (auto& tile : values) tile[e] = 0.0f;
    }
  }
  __device__ SoftmaxState state(int half) const { return {maximum[half], weights[half * 2]}; }
};

/// The rows' sums over all spans.
template <int kTiles>
struct MmaTotal {
  SoftmaxState states[2];
  float values[kTiles][4] = {};

  __device__ void merge(const MmaSums<kTiles>& span) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const MergeFactors f = merge_span(states[half], span.state(half));
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; ++e) values[n][e] = merge_value(values[n][e], span.values[n][e], f);
      }
    }
  }
  /// `out` is where the lane's first column of a row's first 8 goes; column(n): where tile n has its 8, by eights.
  template <typename Column>
  __device__ void store(int half, float* out, Column&& column) const {
    const float inverse = __frcp_rn(states[half].sum);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      ptx::store_global(reinterpret_cast<float2*>(out + column(n) * 8),
                        make_float2(divided(values[n][half * 2], inverse), divided(values[n][half * 2 + 1], inverse)));
    }
  }
};

/// sums += weights values of 64 keys, from the column 8 first_tile on.
template <typename T, int kDim, int kTiles>
__device__ inline void multiply_values(const std::uint32_t (&weights)[kMmaKeys / 16][4], const T* values,
                                       int first_tile, MmaSums<kTiles>& sums) {
  const int lane = ptx::recomputed(threadIdx.x % 32);
#pragma unroll
  for (int step = 0; step < kMmaKeys / 16; ++step) {
    mma<T>(sums.weights, weights[step], kOnes<T>, kOnes<T>);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      std::uint32_t b[4];
      ptx::load_matrix_x4_transposed(b, values + SharedRows<kDim>::at(step * 16 + lane % 16, first_tile + n + lane / 16));
      mma<T>(sums.values[n], weights[step], b[0], b[1]);
      mma<T>(sums.values[n + 1], weights[step], b[2], b[3]);
    }
  }
}

/// Grid (kv heads * tiles of tile_rows rows, sequences): sequences too long for attend_spans, whole.
template <typename Tiles>
__device__ inline void attend_tiles(const AttentionParams& p) {
  using T = typename Tiles::Element;
  constexpr int kDim = Tiles::kDim;
  extern __shared__ uint4 shared[];
  constexpr int kTileRows = kMmaWarps * kMmaRows / kColumnWarps<kDim>;
  constexpr int kTiles = kDim / 8 / kColumnWarps<kDim>;
  T* q = reinterpret_cast<T*>(shared);
  T* kv_tiles = q + kTileRows * kDim;
  RowScale* scales = reinterpret_cast<RowScale*>(kv_tiles + Tiles::kElements);  // [kTileRows]

  const int sequence = blockIdx.y;
  const SequenceRows s = sequence_rows<true>(p, sequence);
  const int group = p.num_heads / p.num_kv_heads, num_rows = s.queries * group;
  const int kv_head = blockIdx.x % p.num_kv_heads;
  // The last rows see the most keys: they start first.
  const int tile = (num_rows + kTileRows - 1) / kTileRows - 1 - static_cast<int>(blockIdx.x / p.num_kv_heads);
  if (tile < 0 || s.queries <= p.split_queries) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int block_row = tile * kTileRows, warp_row = warp / kColumnWarps<kDim> * kMmaRows;
  const int first_tile = warp % kColumnWarps<kDim> * kTiles;
  const int first_row = block_row + warp_row;
  const bool busy = first_row < num_rows;
  const KeyRange block_first = visible_keys<true>(p, s, s.first_position + block_row / group);
  const KeyRange block_last =
      visible_keys<true>(p, s, s.first_position + (min(block_row + kTileRows, num_rows) - 1) / group);
  const KeyRange warp_first = visible_keys<true>(p, s, s.first_position + first_row / group);
  const KeyRange warp_last =
      visible_keys<true>(p, s, s.first_position + (min(first_row + kMmaRows, num_rows) - 1) / group);

  constexpr int kLoadedRows = kTileRows / kMmaWarps;
  load_queries<Tiles>(p, s, group, kv_head, block_row, warp * kLoadedRows, kLoadedRows, q, scales);
  const int position[2] = {s.first_position + min(first_row + lane / 4, num_rows - 1) / group,
                           s.first_position + min(first_row + lane / 4 + 8, num_rows - 1) / group};
  MmaTotal<kTiles> total;

  Tiles kv(p, s, sequence, kv_head, kv_tiles);
  MmaSums<kTiles> sums;
  sums.clear();
  int first = block_first.low / kMmaKeys * kMmaKeys;
  kv.start(first);
  for (; first < block_last.high; first += kMmaKeys) {
    const int next = first + kMmaKeys;
    const bool more = next < block_last.high;
    const bool seen = busy && first < warp_last.high && next > warp_first.low;
    kv.keys_ready(first, more);
    float scores[kMmaKeys / 8][4];
    if (seen) multiply_keys<T, kDim>(q + warp_row * kDim, kv.keys, scores);
    __syncthreads();
    kv.keys_used(first, more);
    std::uint32_t weights[kMmaKeys / 16][4];
    if (seen) {
      float factor[2], maximum[2];
      shape_scores(p, s, scales + warp_row, position, first, first < warp_last.low || next > warp_first.high, scores, factor, maximum);
      const Rescale r[2] = {take_maximum(sums.maximum[0], maximum[0], factor[0]),
                            take_maximum(sums.maximum[1], maximum[1], factor[1])};
#pragma unroll
      for (int j = 0; j < kMmaKeys / 8; ++j) {
        const auto weight = [&](int e) { return weight_of(scores[j][e], factor[e / 2], r[e / 2].reference); };
        weights[j / 2][j % 2 * 2] = pack<T>(weight(0), weight(1));
        weights[j / 2][j % 2 * 2 + 1] = pack<T>(weight(2), weight(3));
      }
      rescale(sums.weights, r);
#pragma unroll
      for (auto& v : sums.values) rescale(v, r);
    }
    kv.values_ready(first, more);
    if (seen) multiply_values<T, kDim>(weights, kv.values, first_tile, sums);
    if (busy && (!more || next % kSpanKeys == 0)) {
      total.merge(sums);
      sums.clear();
    }
    __syncthreads();
    kv.values_used(first, more);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane / 4 + half * 8;
    if (row >= num_rows) break;
    float* out = p.out + (s.first_row + row / group) * p.out_stride + (kv_head * group + row % group) * kDim;
    total.store(half, out + lane % 4 * 2, [&](int n) { return Tiles::chunk_at(first_tile + n); });
  }
}

/// Grid (kv heads * tiles of 16 rows, sequences, spans): one span of a short sequence, into the partials.
template <typename Tiles>
__device__ inline void attend_spans(const AttentionParams& p) {
  using T = typename Tiles::Element;
  constexpr int kDim = Tiles::kDim;
  extern __shared__ uint4 shared[];
  constexpr int kWarpKeys = kMmaKeys / kMmaWarps;
  constexpr int kChunks = kDim / 8, kWarpTiles = (kChunks + kMmaWarps - 1) / kMmaWarps;  // columns: warp + 4 i
  T* q = reinterpret_cast<T*>(shared);
  T* kv_tiles = q + kMmaRows * kDim;
  T* weights = kv_tiles + Tiles::kElements;                                    // [kMmaRows, kMmaKeys]
  float* maxima = reinterpret_cast<float*>(weights + kMmaRows * kMmaKeys);     // [kMmaWarps, kMmaRows]
  RowScale* scales = reinterpret_cast<RowScale*>(maxima + kMmaWarps * kMmaRows);  // [kMmaRows]

  const int sequence = blockIdx.y;
  const SequenceRows s = sequence_rows<true>(p, sequence);
  const int group = p.num_heads / p.num_kv_heads, num_rows = s.queries * group;
  const int kv_head = blockIdx.x % p.num_kv_heads, first_row = blockIdx.x / p.num_kv_heads * kMmaRows;
  if (first_row >= num_rows || s.queries > p.split_queries) return;
  const KeyRange first_seen = visible_keys<true>(p, s, s.first_position + first_row / group);
  const KeyRange last_seen =
      visible_keys<true>(p, s, s.first_position + (min(first_row + kMmaRows, num_rows) - 1) / group);
  const int span = blockIdx.z;
  const int first_key = max(first_seen.low, span * kSpanKeys), end_key = min(last_seen.high, (span + 1) * kSpanKeys);
  if (first_key >= end_key) return;

  Tiles kv(p, s, sequence, kv_head, kv_tiles);
  int first = first_key / kMmaKeys * kMmaKeys;
  kv.start(first);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  load_queries<Tiles>(p, s, group, kv_head, first_row, warp * kMmaWarps, kMmaRows / kMmaWarps, q, scales);
  const int position[2] = {s.first_position + min(first_row + lane / 4, num_rows - 1) / group,
                           s.first_position + min(first_row + lane / 4 + 8, num_rows - 1) / group};
  MmaSums<kWarpTiles> sums;
  sums.clear();
  for (; first < end_key; first += kMmaKeys) {
    const int next = first + kMmaKeys;
    const bool more = next < end_key;
    kv.keys_ready(first, more);
    float scores[kWarpKeys / 8][4];
    multiply_keys<T, kDim>(q, kv.keys + warp * kWarpKeys * kDim, scores);
    float factor[2], maximum[2];
    shape_scores(p, s, scales, position, first + warp * kWarpKeys, first < last_seen.low || next > first_seen.high, scores, factor,
                 maximum);
    if (lane % 4 == 0) {
      maxima[warp * kMmaRows + lane / 4] = maximum[0];
      maxima[warp * kMmaRows + lane / 4 + 8] = maximum[1];
    }
    __syncthreads();
    kv.keys_used(first, more);
    Rescale r[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* row = maxima + lane / 4 + half * 8;
      const float tile = fmaxf(fmaxf(row[0], row[kMmaRows]), fmaxf(row[2 * kMmaRows], row[3 * kMmaRows]));
      r[half] = take_maximum(sums.maximum[half], tile, factor[half]);
#pragma unroll
      for (int j = 0; j < kWarpKeys / 8; ++j) {
        const auto weight = [&](int e) { return weight_of(scores[j][half * 2 + e], factor[half], r[half].reference); };
        *reinterpret_cast<std::uint32_t*>(weights + SharedRows<kMmaKeys>::at(lane / 4 + half * 8, warp * 2 + j) +
                                          lane % 4 * 2) = pack<T>(weight(0), weight(1));
      }
    }
    rescale(sums.weights, r);
#pragma unroll
    for (auto& v : sums.values) rescale(v, r);
    kv.values_ready(first, more);
    std::uint32_t a[kMmaKeys / 16][4];
#pragma unroll
    for (int step = 0; step < kMmaKeys / 16; ++step) {
      ptx::load_matrix_x4(a[step], weights + SharedRows<kMmaKeys>::at(lane % 16, step * 2 + lane / 16));
      mma<T>(sums.weights, a[step], kOnes<T>, kOnes<T>);
    }
#pragma unroll
    for (int i = 0; i < kWarpTiles; ++i) {
      const int n = warp + i * kMmaWarps;
      if (n >= kChunks) break;
#pragma unroll
      for (int step = 0; step < kMmaKeys / 16; step += 2) {
        std::uint32_t b[4];
        ptx::load_matrix_x4_transposed(b, kv.values + SharedRows<kDim>::at(step * 16 + lane, n));
        mma<T>(sums.values[i], a[step], b[0], b[1]);
        mma<T>(sums.values[i], a[step + 1], b[2], b[3]);
      }
    }
    __syncthreads();
    kv.values_used(first, more);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane / 4 + half * 8;
    if (row >= num_rows) break;
    const std::int64_t index = partial_index(p, sequence, row / group, span, kv_head * group + row % group);
    if (threadIdx.x % 4 == 0 && warp == 0) {
      ptx::store_global(reinterpret_cast<float2*>(p.partial_states) + index,
                        make_float2(sums.maximum[half], sums.weights[half * 2]));
    }
#pragma unroll
    for (int i = 0; i < kWarpTiles; ++i) {
      const int n = warp + i * kMmaWarps;
      if (n >= kChunks) break;
      ptx::store_global(reinterpret_cast<float2*>(p.partial_values + index * kDim + Tiles::chunk_at(n) * 8 +
                                                  lane % 4 * 2),
                        make_float2(sums.values[i][half * 2], sums.values[i][half * 2 + 1]));
    }
  }
}

}  // namespace inferd::cuda
