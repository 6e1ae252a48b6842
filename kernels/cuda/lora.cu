// Adapters' updates: shrink (A x, a warp two rows of A), then expand (B of that, a thread an output).
#include "kernels/cuda/dev/lora_params.h"
#include "kernels/cuda/dev/rows.cuh"

namespace inferd::cuda {
namespace {

/// Columns [column, column + 4) of a row of the activation, f16 and int8 without their scales.
__device__ float4 load_x(const ActivationPlanes& x, std::int64_t token, int column) {
  const std::int64_t at = token * x.stride + column;
  if (x.f32 != nullptr) return widen(x.f32 + at);
  if (x.f16 != nullptr) return widen(reinterpret_cast<const __half*>(x.f16) + at);
  if (x.bf16 != nullptr) return widen(reinterpret_cast<const __nv_bfloat16*>(x.bf16) + at);
  const char4 codes = *reinterpret_cast<const char4*>(x.int8 + at);
  return make_float4(codes.x, codes.y, codes.z, codes.w);
}

__device__ float scale_of_x(const ActivationPlanes& x, std::int64_t token) {
  if (x.f32 != nullptr) return 1.0f;
  if (x.f16 != nullptr) return x.f16_scale[token];
  return x.bf16 != nullptr ? 1.0f : x.int8_scale[token];
}

__device__ float add_product(float sum, const float4& a, const float4& x) {
  return fmaf(a.w, x.w, fmaf(a.z, x.z, fmaf(a.y, x.y, fmaf(a.x, x.x, sum))));
}

}  // namespace

/// shrunk[t] = A x[t]; block (token, 8 rows of A). A lane adds every 32nd four columns, then lanes are added in a tree.
extern "C" __global__ void __launch_bounds__(128) lora_shrink(const __grid_constant__ LoraParams p) {
  const std::int64_t token = blockIdx.x;
  const int adapter = p.adapters[token] - p.first;
  if (adapter < 0 || adapter >= p.count) return;
  const LowRankView& update = p.updates[adapter];
  const int rank = blockIdx.y * kShrinkRanks + threadIdx.x / 32 * 2;
  if (update.a == nullptr || rank >= update.rank) return;
  const int lane = threadIdx.x % 32;
  const float* first = update.a + rank * p.x.stride;
  const float* second = rank + 1 < update.rank ? first + p.x.stride : first;
  float sums[2] = {0.0f, 0.0f};
  for (int column = 4 * lane; column < p.x.stride; column += 128) {
    const float4 x = load_x(p.x, token, column);
    sums[0] = add_product(sums[0], *reinterpret_cast<const float4*>(first + column), x);
    sums[1] = add_product(sums[1], *reinterpret_cast<const float4*>(second + column), x);
  }
  const float scale = scale_of_x(p.x, token);
  for (int i = 0; i < 2; ++i) {
    const float sum = warp_sum(sums[i]);
    if (lane == 0 && rank + i < update.rank) p.shrunk[token * p.shrunk_stride + rank + i] = sum * scale;
  }
}

/// out[t] = B shrunk[t], parts in their order; block (token, 256 rows of B). -0 where nothing is added.
extern "C" __global__ void __launch_bounds__(kExpandRows) lora_expand(const __grid_constant__ LoraParams p) {
  const std::int64_t token = blockIdx.x;
  const int adapter = p.adapters[token];
  const int at = adapter - p.first;
  // The first launch also answers for rows without an adapter; other launches' adapters are theirs.
  if (adapter < 0 ? p.first != 0 : at < 0 || at >= p.count) return;
  const int row = blockIdx.y * kExpandRows + threadIdx.x;
  if (row >= p.rows) return;
  float out = -0.0f;
  if (adapter >= 0) {
    const LowRankView& update = p.updates[at];
    const float* shrunk = p.shrunk + token * p.shrunk_stride;
    for (int i = 0; i < update.num_parts; ++i) {
      const LowRankPart part = update.parts[i];
      const int in_part = row - part.first_row;
      if (in_part < 0 || in_part >= part.rows) continue;
      float sum = 0.0f;
      for (int r = 0; r < part.rank; ++r) {
        sum = fmaf(part.b[static_cast<std::int64_t>(r) * part.rows + in_part], shrunk[part.first_rank + r], sum);
      }
      out += sum;
    }
  }
  p.out[token * p.out_stride + row] = out;
}

}  // namespace inferd::cuda
