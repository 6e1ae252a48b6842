// Between the QKV product and attention: norms of q and k, their rotation, and keys and values into their pages.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/dev/qkv_post_params.h"
#include "kernels/cuda/dev/rows.cuh"

namespace inferd::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 256;

template <int n>
__device__ void store_kv(void* base, std::int64_t at, std::int32_t element, const float (&v)[n]) {
  if (element == kKvF32) return store_floats(static_cast<float*>(base) + at, v);
  std::uint16_t bits[n];
#pragma unroll
  for (int j = 0; j < n; ++j) {
    bits[j] =
        element == kKvF16 ? __half_as_ushort(__float2half_rn(v[j])) : __bfloat16_as_ushort(__float2bfloat16_rn(v[j]));
  }
  std::uint16_t* to = static_cast<std::uint16_t*>(base) + at;
  if constexpr (n == 4) {
    *reinterpret_cast<uint2*>(to) =
        make_uint2(bits[0] | std::uint32_t{bits[1]} << 16, bits[2] | std::uint32_t{bits[3]} << 16);
  } else if constexpr (n == 2) {
    *reinterpret_cast<std::uint32_t*>(to) = bits[0] | std::uint32_t{bits[1]} << 16;
  } else {
    *to = bits[0];
  }
}

/// Rotates the n elements from `at` on: (a, b) -> (a cos - b sin, b cos + a sin). `head` is the whole unrotated head.
template <int n>
__device__ void rotate(const QkvPostParams& p, float (&v)[n], int at, const float* head, const float* table) {
  const int half = p.rotary_dim / 2;
  if (p.interleaved) {
    float turn[n == 1 ? 2 : n];
    load_floats(turn, table + (at & ~1));
    if constexpr (n == 1) {
      v[0] = at & 1 ? v[0] * turn[0] + head[at - 1] * turn[1] : v[0] * turn[0] - head[at + 1] * turn[1];
    } else {
#pragma unroll
      for (int j = 0; j < n; j += 2) {
        const float a = v[j], b = v[j + 1];
        v[j] = a * turn[j] - b * turn[j + 1];
        v[j + 1] = b * turn[j] + a * turn[j + 1];
      }
    }
    return;
  }
  const bool upper = at >= half;
  const int pair = upper ? at - half : at;
  float partner[n];
  load_floats(partner, head + (upper ? pair : pair + half));
#pragma unroll
  for (int j = 0; j < n; j += n == 1 ? 1 : 2) {
    float turn[n == 1 ? 2 : 4];
    load_floats(turn, table + 2 * (pair + j));
#pragma unroll
    for (int i = 0; i < (n == 1 ? 1 : 2); ++i) {
      const float sine = upper ? turn[2 * i + 1] : -turn[2 * i + 1];
      v[j + i] = v[j + i] * turn[2 * i] + partner[j + i] * sine;
    }
  }
}

/// One warp a head; lane l holds n elements from (32 k + l) n on, for each k < slots.
template <int n, int slots>
__device__ void finish_heads(const QkvPostParams& p) {
  __shared__ __align__(16) float heads[kWarps][kMaxHeadDim];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = p.first_head + blockIdx.y * kWarps + warp;
  if (head >= p.end_head) return;
  const std::int64_t token = blockIdx.x;
  float* x = p.qkv + token * p.qkv_stride + static_cast<std::int64_t>(head) * p.head_dim;
  const bool is_query = head < p.num_heads;
  const bool is_value = head >= p.num_heads + p.num_kv_heads;

  float v[slots][n];
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + lane) * n;
    if (at < p.head_dim) load_floats(v[k], x + at);
  }
  const float* weight = is_value ? nullptr : is_query ? p.q_norm : p.k_norm;
  if (weight != nullptr) {
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < slots; ++k) {
      if ((32 * k + lane) * n >= p.head_dim) continue;
#pragma unroll
      for (int j = 0; j < n; ++j) squares += v[k][j] * v[k][j];
    }
    const float factor = rsqrtf(warp_sum(squares) / static_cast<float>(p.head_dim) + p.eps);
#pragma unroll
    for (int k = 0; k < slots; ++k) {
      const int at = (32 * k + lane) * n;
      if (at >= p.head_dim) continue;
      float w[n];
      load_floats(w, weight + at);
#pragma unroll
      for (int j = 0; j < n; ++j) v[k][j] = v[k][j] * factor * w[j];
    }
  }
  if (p.rope != nullptr && !is_value) {
#pragma unroll
    for (int k = 0; k < slots; ++k) {
      const int at = (32 * k + lane) * n;
      if (at < p.head_dim) store_shared(&heads[warp][at], v[k]);
    }
    __syncwarp();
    const int turning = p.second_rope != nullptr ? 2 * p.rotary_dim : p.rotary_dim;
#pragma unroll
    for (int k = 0; k < slots; ++k) {
      const int at = (32 * k + lane) * n;
      const bool first = at < p.rotary_dim;
      const int region = first ? 0 : p.rotary_dim;
      if (at >= turning) continue;
      rotate(p, v[k], at - region, heads[warp] + region,
             first ? p.rope + token * p.rope_stride : p.second_rope + token * p.second_stride);
    }
  }
  if (is_query || p.keys == nullptr) {
    const float scale = is_query && p.q_scale != nullptr ? p.q_scale[token] : 1.0f;
#pragma unroll
    for (int k = 0; k < slots; ++k) {
      const int at = (32 * k + lane) * n;
      if (at >= p.head_dim) continue;
#pragma unroll
      for (int j = 0; j < n; ++j) v[k][j] *= scale;
      store_floats(x + at, v[k]);
    }
    return;
  }
  const std::int32_t slot = p.slots[token];
  if (slot < 0) return;
  const int kv_head = head - p.num_heads - (is_value ? p.num_kv_heads : 0);
  const std::int64_t row =
      (static_cast<std::int64_t>(slot / p.block_size) * p.num_kv_heads + kv_head) * p.block_size + slot % p.block_size;
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + lane) * n;
    if (at < p.head_dim) store_kv(is_value ? p.values : p.keys, row * p.head_dim + at, p.element, v[k]);
  }
}

}  // namespace

// By how many elements a lane takes at once: 4 for heads of more than 64, 2 for smaller ones, 1 where those straddle
// what rotates or are not aligned.
extern "C" __global__ void __launch_bounds__(128) qkv_post_4(const __grid_constant__ QkvPostParams p) {
  finish_heads<4, 2>(p);
}
extern "C" __global__ void __launch_bounds__(128) qkv_post_2(const __grid_constant__ QkvPostParams p) {
  finish_heads<2, 1>(p);
}
extern "C" __global__ void __launch_bounds__(128) qkv_post_1(const __grid_constant__ QkvPostParams p) {
  finish_heads<1, 8>(p);
}

}  // namespace inferd::cuda
