// Between the QKV product and attention: norms of q and k, their rotation, and keys and values into their pages.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/dev/fp8_pages.cuh"
#include "kernels/cuda/dev/q8_pages.cuh"
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

/// n codes of a byte each, the first in the lowest bits, aligned to n.
template <int n>
__device__ void store_codes(void* code, std::uint32_t codes) {
  if constexpr (n == 4) {
    *static_cast<std::uint32_t*>(code) = codes;
  } else if constexpr (n == 2) {
    *static_cast<std::uint16_t*>(code) = static_cast<std::uint16_t>(codes);
  } else {
    *static_cast<std::uint8_t*>(code) = static_cast<std::uint8_t>(codes);
  }
}

/// n neighbours of a run of 32 that lies in neighbouring lanes, all of which call this: codes to the nearest step of
/// 1/127 of the run's largest magnitude. An infinity or NaN makes the scale, and so the whole run, NaN.
template <int n>
__device__ void store_q8(std::int8_t* code, __half* scale, bool stored, const float (&v)[n]) {
  std::uint32_t largest = 0;  // as bits, of which NaN has the largest
#pragma unroll
  for (int j = 0; j < n; ++j) largest = max(largest, __float_as_uint(v[j]) & 0x7fffffffu);
#pragma unroll
  for (int distance = kQ8Run / n / 2; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  if (!stored) return;
  const bool finite = largest < 0x7f800000u;
  const __half rounded =
      finite ? __float2half_rn(__fdiv_rn(__uint_as_float(largest), 127.0f)) : __ushort_as_half(0x7e00);
  const float step = __half2float(rounded);
  const float inverse = finite && step > 0.0f ? __frcp_rn(step) : 0.0f;
  std::uint32_t codes = 0;
#pragma unroll
  for (int j = 0; j < n; ++j) {
    // A scale rounded to so few bits that codes leave the range is a subnormal one: cut them off.
    const int rounded_code = finite ? max(-127, min(127, __float2int_rn(v[j] * inverse))) : 0;
    codes |= (static_cast<std::uint32_t>(rounded_code) & 0xffu) << 8 * j;
  }
  store_codes<n>(code, codes);
  if (threadIdx.x % (kQ8Run / n) == 0) *scale = rounded;
}

/// Keys or values of one kv head and token into their q8_0 page; `shift` is null or what they are kept without.
template <int n, int slots>
__device__ void store_head_q8(const QkvPostParams& p, void* base, std::int64_t page, int row, const float* shift,
                              float (&v)[slots][n]) {
  std::int8_t* codes = static_cast<std::int8_t*>(base) + page * q8_page_bytes(p.block_size, p.head_dim);
  __half* scales = reinterpret_cast<__half*>(codes + p.block_size * p.head_dim);
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + threadIdx.x % 32) * n;
    const bool stored = at < p.head_dim;
    if (stored && shift != nullptr) {
      float common[n];
      load_floats(common, shift + at);
#pragma unroll
      for (int j = 0; j < n; ++j) v[k][j] -= common[j];
    }
    const int place = row * p.head_dim + at;
    store_q8(codes + place, scales + place / kQ8Run, stored, v[k]);
  }
}

/// Likewise into their fp8 page: codes with one scale, that of the largest magnitude to e4m3's largest; bits do not
/// depend on the architecture. An infinity or NaN makes the scale NaN; what is too large for f16 counts as its largest.
template <int n, int slots>
__device__ void store_head_fp8(const QkvPostParams& p, void* base, std::int64_t page, int row, const float* shift,
                               float (&v)[slots][n]) {
  std::uint8_t* codes = static_cast<std::uint8_t*>(base) + page * fp8_page_bytes(p.block_size, p.head_dim);
  __half* scales = reinterpret_cast<__half*>(codes + p.block_size * p.head_dim);
  std::uint32_t largest = 0;  // as bits, of which NaN has the largest
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + threadIdx.x % 32) * n;
    if (at >= p.head_dim) continue;
    float common[n] = {};
    if (shift != nullptr) load_floats(common, shift + at);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      v[k][j] -= common[j];
      largest = max(largest, __float_as_uint(v[k][j]) & 0x7fffffffu);
    }
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  const bool finite = largest < 0x7f800000u;
  const float wanted = fminf(__fdiv_rn(__uint_as_float(largest), kE4m3Largest), kFp8LargestScale);
  const __half scale = finite ? __float2half_rn(wanted) : __ushort_as_half(0x7e00);
  const float step = __half2float(scale);
  const float inverse = step > 0.0f ? __frcp_rn(step) : 0.0f;  // not of NaN
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + threadIdx.x % 32) * n;
    if (at >= p.head_dim) continue;
    std::uint32_t pairs = 0;
#pragma unroll
    for (int j = 0; j < n; j += 2) {
      const float high = n == 1 ? 0.0f : v[k][n == 1 ? 0 : j + 1] * inverse;
      pairs |= ptx::to_e4m3(v[k][j] * inverse, high) << 8 * j;
    }
    store_codes<n>(codes + row * p.head_dim + at, finite ? pairs : 0);
  }
  if (threadIdx.x % 32 == 0) scales[row] = scale;
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

  float v[slots][n] = {};
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
  const std::int64_t page = static_cast<std::int64_t>(slot / p.block_size) * p.num_kv_heads + kv_head;
  void* base = is_value ? p.values : p.keys;
  if (p.element == kKvQ8 || p.element == kKvFp8) {
    const float* shift = is_value || p.k_shift == nullptr ? nullptr : p.k_shift + kv_head * p.head_dim;
    if (p.element == kKvFp8) return store_head_fp8(p, base, page, slot % p.block_size, shift, v);
    return store_head_q8(p, base, page, slot % p.block_size, shift, v);
  }
  const std::int64_t row = page * p.block_size + slot % p.block_size;
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    const int at = (32 * k + lane) * n;
    if (at < p.head_dim) store_kv(base, row * p.head_dim + at, p.element, v[k]);
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
