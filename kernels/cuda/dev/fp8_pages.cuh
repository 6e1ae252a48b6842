// How fp8 pages lie: x = scale * code, e4m3 codes, one f16 scale for each token.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/dev/ptx.cuh"

namespace inferd::cuda {

/// Bytes of one kv head's keys (or values) of a page: codes [rows][head_dim], behind them scales [rows] f16. As many as
/// kv_bytes says; a multiple of 32 for pages of 16 rows and heads of a multiple of 2.
constexpr __host__ __device__ int fp8_page_bytes(int rows, int head_dim) { return rows * head_dim + rows * 2; }

constexpr float kE4m3Largest = 448.0f;
/// The largest scale: 448 of it still are a finite f16, which tensor cores take.
constexpr float kFp8LargestScale = 146.125f;

/// A token's row of such a part.
struct Fp8Row {
  const std::uint8_t* codes;  // [head_dim]
  const __half* scale;

  static constexpr __device__ int page_bytes(int rows, int head_dim) { return fp8_page_bytes(rows, head_dim); }
  static __device__ Fp8Row of(const std::uint8_t* page, int rows, int row, int head_dim) {
    return {page + row * head_dim, reinterpret_cast<const __half*>(page + rows * head_dim) + row};
  }
};

/// Four neighbours as f32: exact.
__device__ inline float4 widen(const Fp8Row& row, int d) {
  const uint2 pairs = ptx::e4m3_to_f16(*reinterpret_cast<const std::uint32_t*>(row.codes + d));
  const float2 low = __half22float2(reinterpret_cast<const __half2&>(pairs.x));
  const float2 high = __half22float2(reinterpret_cast<const __half2&>(pairs.y));
  const float scale = __half2float(*row.scale) * ptx::kE4m3Unit;
  return make_float4(low.x * scale, low.y * scale, high.x * scale, high.y * scale);
}

}  // namespace inferd::cuda
