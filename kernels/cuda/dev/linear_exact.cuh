// y = x W^T in f32 with every weight widened exactly: the body of the kernels of linear_exact*.cu.
#pragma once

#include "kernels/cuda/dev/epilogue.cuh"
#include "kernels/cuda/dev/linear_exact_params.h"
#include "kernels/cuda/dev/weight_formats.cuh"

namespace inferd::cuda {

inline constexpr int kExactWarps = 8;

/// One block: a row tile times kExactTokens tokens. Its warps take a stretch of k tiles each. The order of additions of
/// an output: each of four lanes adds its columns in ascending order, lanes are added in pairs, then warps in order;
/// so it depends on the number of columns alone.
template <WeightFormat F>
struct LinearExact {
  const LinearExactParams& p;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int row_tile = blockIdx.x / p.token_tiles;
  const int first_token = blockIdx.x % p.token_tiles * kExactTokens;
  const int tokens = min(kExactTokens, p.num_tokens - first_token);

  float sums[kExactTokens][2] = {};  // of rows g and g + 8

  __device__ explicit LinearExact(const LinearExactParams& params) : p(params) {}

  /// x of columns c, c + 1, c + 8 and c + 9 of the packed matrix.
  __device__ void load_x(const float* x, int c, const int (&order)[4], float (&v)[4]) const {
    if (p.column_order != nullptr) {
#pragma unroll
      for (int i = 0; i < 4; ++i) v[i] = x[order[i]];
      return;
    }
    const float2 low = *reinterpret_cast<const float2*>(x + c);
    const float2 high = *reinterpret_cast<const float2*>(x + c + 8);
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
  }

  __device__ void multiply(const WeightTile<F>& tile, int k_tile) {
#pragma unroll
    for (int step = 0; step < WeightTile<F>::kSteps; ++step) {
      float w[8];
      tile.values(step, w);
      const int c = k_tile * kColumnTile + 16 * step + 2 * (lane % 4);
      int order[4] = {};
      if (p.column_order != nullptr) {
#pragma unroll
        for (int i = 0; i < 4; ++i) order[i] = p.column_order[c + i % 2 + i / 2 * 8];
      }
#pragma unroll
      for (int n = 0; n < kExactTokens; ++n) {
        if (n >= tokens) break;
        float v[4];
        load_x(p.x + (first_token + n) * p.x_stride, c, order, v);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int r = 0; r < 2; ++r) sums[n][r] = fmaf(w[i / 2 * 4 + 2 * r + i % 2], v[i], sums[n][r]);
        }
      }
    }
  }

  __device__ void store(const float* totals) const {
    const int row = threadIdx.x % kRowTile;
    const int n = threadIdx.x / kRowTile;
    if (n >= tokens) return;
    const auto total = [&](int of_row) {
      float sum = totals[n * kRowTile + of_row];
      for (int w = 1; w < kExactWarps; ++w) sum += totals[(w * kExactTokens + n) * kRowTile + of_row];
      return sum;
    };
    if (p.interleaved) {
      const int column = row_tile * (kRowTile / 2) + row;
      if (row < kRowTile / 2 && column < p.rows / 2) {
        store_gated(p.epilogue, first_token + n, p.first_row + column, total(row), total(row + kRowTile / 2));
      }
      return;
    }
    const int at = row_tile * kRowTile + row;
    if (at < p.rows) store_output(p.epilogue, first_token + n, p.first_row + at, total(row));
  }

  __device__ void run(float* totals) {
    const int k_tiles = p.weight.k_tiles;
    const int begin = k_tiles * warp / kExactWarps;
    const int end = k_tiles * (warp + 1) / kExactWarps;
    WeightTile<F> next;
    if (begin < end) next.load(p.weight, row_tile, begin, lane);
    for (int k_tile = begin; k_tile < end; ++k_tile) {
      const WeightTile<F> tile = next;
      if (k_tile + 1 < end) next.load(p.weight, row_tile, k_tile + 1, lane);
      multiply(tile, k_tile);
    }
#pragma unroll
    for (int n = 0; n < kExactTokens; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        sums[n][r] += __shfl_xor_sync(~0u, sums[n][r], 1);
        sums[n][r] += __shfl_xor_sync(~0u, sums[n][r], 2);
        if (lane % 4 == 0) totals[(warp * kExactTokens + n) * kRowTile + lane / 4 + 8 * r] = sums[n][r];
      }
    }
    __syncthreads();
    if (threadIdx.x < kExactTokens * kRowTile) store(totals);
  }
};

template <WeightFormat F>
inline __device__ void linear_exact(const LinearExactParams& p) {
  __shared__ float totals[kExactWarps * kExactTokens * kRowTile];
  LinearExact<F>(p).run(totals);
}

}  // namespace inferd::cuda

#define INFERD_LINEAR_EXACT(format)                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2)                                                                \
      linear_exact_##format(const __grid_constant__ LinearExactParams p) {                                            \
    linear_exact<WeightFormat::format>(p);                                                                            \
  }
