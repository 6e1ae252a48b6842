// What the ranks of a tensor-parallel layer computed: added up in the order of ranks, or side by side.
#include "kernels/cuda/dev/ptx.cuh"
#include "kernels/cuda/dev/ranks_params.h"

namespace inferd::cuda {

extern "C" __global__ void __launch_bounds__(256) sum_ranks(const __grid_constant__ SumRanksParams p) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * 256 + threadIdx.x) * 4;
  if (p.vectors != 0) {
    if (first >= p.count) return;
    float4 sum = *reinterpret_cast<const float4*>(p.parts + first);
    for (int rank = 1; rank < p.ranks; ++rank) {
      const float4 part = *reinterpret_cast<const float4*>(p.parts + rank * p.count + first);
      sum.x += part.x;
      sum.y += part.y;
      sum.z += part.z;
      sum.w += part.w;
    }
    ptx::store_global(reinterpret_cast<float4*>(p.out + first), sum);
    return;
  }
  for (std::int64_t i = first; i < p.count && i < first + 4; ++i) {
    float sum = p.parts[i];
    for (int rank = 1; rank < p.ranks; ++rank) sum += p.parts[rank * p.count + i];
    p.out[i] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(256) join_ranks(const __grid_constant__ JoinRanksParams p) {
  const float* from = p.parts + (blockIdx.y * p.tokens + blockIdx.x) * p.columns;
  float* to = p.out + blockIdx.x * p.out_stride + static_cast<std::int64_t>(blockIdx.y) * p.columns;
  for (int i = threadIdx.x; i < p.columns; i += 256) to[i] = from[i];
}

}  // namespace inferd::cuda
