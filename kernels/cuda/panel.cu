// Packed weights as row-major 16-bit panels, for cuBLASLt; and its products into outputs.
#include <cuda_fp16.h>

#include "kernels/cuda/dev/epilogue.cuh"
#include "kernels/cuda/dev/panel_params.h"
#include "kernels/cuda/dev/weight_formats.cuh"

namespace inferd::cuda {
namespace {

/// Transposes the 4 x 4 words of four neighbouring lanes: word j of lane t becomes word t of lane j.
__device__ void transpose_quad(std::uint32_t (&w)[4], int t) {
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t got = __shfl_xor_sync(~0u, t & 1 ? w[i] : w[i + 1], 1);
    (t & 1 ? w[i] : w[i + 1]) = got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t got = __shfl_xor_sync(~0u, t & 2 ? w[i] : w[i + 2], 2);
    (t & 2 ? w[i] : w[i + 2]) = got;
  }
}

/// Pairs of a step, pair i being columns 16 step + 2 t + 8 (i / 2) + {0, 1} of row g + 8 (i % 2), in 16 bits.
template <WeightFormat F>
__device__ void pairs_of(const WeightTile<F>& tile, int step, std::uint32_t (&pairs)[4]) {
  if constexpr (WeightTile<F>::kQuantized) {
    float w[8];
    tile.values(step, w);
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = bits_of(__floats2half2_rn(w[2 * i], w[2 * i + 1]));
  } else {
    tile.fragment(step, pairs);
  }
}

/// A warp writes one tile.
template <WeightFormat F>
__device__ void write_panel(const PanelParams& p) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int k_tile = blockIdx.x * kPanelTiles + threadIdx.x / 32;
  if (k_tile >= p.weight.k_tiles) return;
  WeightTile<F> tile;
  tile.load(p.weight, blockIdx.y, k_tile, lane);
  std::uint32_t chunks[2][2][4];  // [row g or g + 8][half of the columns][chunk of 8 columns]: this lane's pairs
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    std::uint32_t pairs[4];
    pairs_of(tile, step, pairs);
#pragma unroll
    for (int i = 0; i < 4; ++i) chunks[i % 2][step / 2][step % 2 * 2 + i / 2] = pairs[i];
  }
  const std::int64_t stride = std::int64_t{p.weight.k_tiles} * kColumnTile;
#pragma unroll
  for (int upper = 0; upper < 2; ++upper) {
    const std::int64_t row = std::int64_t{blockIdx.y} * kRowTile + g + 8 * upper;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      std::uint32_t(&w)[4] = chunks[upper][half];
      transpose_quad(w, t);
      const int column = k_tile * kColumnTile + 32 * half + 8 * t;
      *reinterpret_cast<uint4*>(p.out + row * stride + column) = make_uint4(w[0], w[1], w[2], w[3]);
    }
  }
}

}  // namespace

#define INFERD_PANEL(format)                                                                                          \
  extern "C" __global__ void __launch_bounds__(kPanelThreads) panel_##format(const __grid_constant__ PanelParams p) { \
    write_panel<WeightFormat::format>(p);                                                                             \
  }
INFERD_PANEL(f16)
INFERD_PANEL(bf16)
INFERD_PANEL(q8_0)
INFERD_PANEL(q4_0)
INFERD_PANEL(q4_1)
INFERD_PANEL(q5_0)
INFERD_PANEL(q5_1)
INFERD_PANEL(q2_k)
INFERD_PANEL(q3_k)
INFERD_PANEL(q4_k)
INFERD_PANEL(q5_k)
INFERD_PANEL(q6_k)
INFERD_PANEL(iq4_nl)
INFERD_PANEL(iq4_xs)
INFERD_PANEL(g2_32)
INFERD_PANEL(g2_64)
INFERD_PANEL(g3_32)
INFERD_PANEL(g3_64)
INFERD_PANEL(g4_32)
INFERD_PANEL(g4_64)
INFERD_PANEL(g8_32)
INFERD_PANEL(g8_64)
INFERD_PANEL(t4_16)
INFERD_PANEL(t4_32)
INFERD_PANEL(h4_64)

extern "C" __global__ void __launch_bounds__(kPanelThreads) panel_finish(const __grid_constant__ PanelFinishParams p) {
  const int i = blockIdx.y * kPanelThreads + threadIdx.x;
  if (i >= p.outputs) return;
  const std::int64_t token = blockIdx.x;
  const float scale = p.x_scale != nullptr ? p.x_scale[token] : 1.0f;
  const float* products = p.products + token * p.stride;
  if (p.interleaved) {
    const float* gate = products + i / 8 * kRowTile + i % 8;
    store_gated(p.epilogue, token, p.first + i, gate[0] * scale, gate[8] * scale);
  } else {
    store_output(p.epilogue, token, p.first + i, products[i] * scale);
  }
}

}  // namespace inferd::cuda
