// Rows of an embedding matrix, from the packed layout.
#include "kernels/cuda/dev/embedding_params.h"
#include "kernels/cuda/dev/weight_formats.cuh"

namespace inferd::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTilesAtOnce = kThreads / 4;  // four lanes hold a row of a tile

__device__ void store_column(const EmbeddingParams& p, float* out, int column, float value) {
  if (column >= p.columns) return;
  if (p.column_order != nullptr) column = p.column_order[column];
  out[column] = p.accumulate ? out[column] + value : value;
}

/// Columns `column`, even, and column + 1.
__device__ void store_pair(const EmbeddingParams& p, float* out, int column, float first, float second) {
  if (p.pairs && column + 1 < p.columns) {
    auto* at = reinterpret_cast<float2*>(out + column);
    float2 value = make_float2(first, second);
    if (p.accumulate) value = make_float2(at->x + first, at->y + second);
    *at = value;
    return;
  }
  store_column(p, out, column, first);
  store_column(p, out, column + 1, second);
}

template <WeightFormat F>
__device__ void write_row(const EmbeddingParams& p) {
  const int row = p.ids[blockIdx.x] - p.first_row;
  if (row < 0 || row >= p.rows) return;
  float* out = p.out + blockIdx.x * p.out_stride;
  const bool upper = row % kRowTile >= 8;
  const int t = threadIdx.x % 4;
  for (int k_tile = threadIdx.x / 4; k_tile < p.weight.k_tiles; k_tile += kTilesAtOnce) {
    WeightTile<F> tile;
    tile.load(p.weight, row / kRowTile, k_tile, 4 * (row % 8) + t);
#pragma unroll
    for (int step = 0; step < WeightTile<F>::kSteps; ++step) {
      float w[8];
      tile.values(step, w);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = k_tile * kColumnTile + 16 * step + 8 * half + 2 * t;
        const float* lower = w + 4 * half;
        store_pair(p, out, column, upper ? lower[2] : lower[0], upper ? lower[3] : lower[1]);
      }
    }
  }
}

}  // namespace

#define INFERD_EMBEDDING(format)                                                                                     \
  extern "C" __global__ void __launch_bounds__(kThreads, 8) embedding_##format(const __grid_constant__ EmbeddingParams p) { \
    write_row<WeightFormat::format>(p);                                                                              \
  }
INFERD_EMBEDDING(f32)
INFERD_EMBEDDING(f16)
INFERD_EMBEDDING(bf16)
INFERD_EMBEDDING(q8_0)
INFERD_EMBEDDING(q4_0)
INFERD_EMBEDDING(q4_1)
INFERD_EMBEDDING(q5_0)
INFERD_EMBEDDING(q5_1)
INFERD_EMBEDDING(q2_k)
INFERD_EMBEDDING(q3_k)
INFERD_EMBEDDING(q4_k)
INFERD_EMBEDDING(q5_k)
INFERD_EMBEDDING(q6_k)
INFERD_EMBEDDING(iq4_nl)
INFERD_EMBEDDING(iq4_xs)
INFERD_EMBEDDING(g2_32)
INFERD_EMBEDDING(g2_64)
INFERD_EMBEDDING(g3_32)
INFERD_EMBEDDING(g3_64)
INFERD_EMBEDDING(g4_32)
INFERD_EMBEDDING(g4_64)
INFERD_EMBEDDING(g8_32)
INFERD_EMBEDDING(g8_64)
INFERD_EMBEDDING(t4_16)
INFERD_EMBEDDING(t4_32)
INFERD_EMBEDDING(h4_64)

}  // namespace inferd::cuda
