// How q8_0 pages lie: x = scale * code, one f16 scale for each run of 32 elements.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace inferd::cuda {

constexpr int kQ8Run = 32;

/// Bytes of one kv head's keys (or values) of a page: codes [rows][head_dim] int8, behind them scales
/// [rows][head_dim / kQ8Run] f16. As many as DType::q8_0 says; a multiple of 32 for pages of 16 rows and more.
constexpr __host__ __device__ int q8_page_bytes(int rows, int head_dim) {
  return rows * head_dim + rows * (head_dim / kQ8Run) * 2;
}

/// A token's row of such a part.
struct Q8Row {
  const std::int8_t* codes;  // [head_dim]
  const __half* scales;      // [head_dim / kQ8Run]

  static constexpr __device__ int page_bytes(int rows, int head_dim) { return q8_page_bytes(rows, head_dim); }
  static __device__ Q8Row of(const std::uint8_t* page, int rows, int row, int head_dim) {
    const int first = row * head_dim;
    return {reinterpret_cast<const std::int8_t*>(page) + first,
            reinterpret_cast<const __half*>(page + rows * head_dim) + first / kQ8Run};
  }
};

/// Four neighbours as f32: exact.
__device__ inline float4 widen(const Q8Row& row, int d) {
  const char4 code = *reinterpret_cast<const char4*>(row.codes + d);
  const float scale = __half2float(row.scales[d / kQ8Run]);
  return make_float4(code.x * scale, code.y * scale, code.z * scale, code.w * scale);
}

}  // namespace inferd::cuda
