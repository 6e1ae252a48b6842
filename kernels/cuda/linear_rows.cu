// What stands before and behind the products of some linear layers: columns in a weight's order, and late gating.
#include <cuda_fp16.h>

#include "kernels/cuda/dev/epilogue.cuh"
#include "kernels/cuda/dev/linear_rows_params.h"

namespace inferd::cuda {

extern "C" __global__ void __launch_bounds__(256) linear_permute(const __grid_constant__ PermuteColumnsParams p) {
  const std::int64_t row = blockIdx.x;
  const bool f16 = p.out.f16 != nullptr;
  const std::uint16_t* x = (f16 ? p.x.f16 : p.x.bf16) + row * p.x.stride;
  std::uint16_t* out = (f16 ? p.out.f16 : p.out.bf16) + row * p.out.stride;
  const int columns = static_cast<int>(p.out.stride);
  for (int first = 0; first < columns; first += 256) {
    const int column = first + threadIdx.x;
    const std::uint16_t value = column < columns ? x[p.order[column]] : 0;
    if (column < columns) out[column] = value;
    if (!f16) continue;
    float sum = __half2float(__ushort_as_half(value));
    for (int step = 1; step < 16; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (column < columns && column % 16 == 0) p.out.f16_sums[(row * p.out.stride + column) / 16] = sum;
  }
  if (f16 && threadIdx.x == 0) p.out.f16_scale[row] = p.x.f16_scale[row];
}

extern "C" __global__ void __launch_bounds__(256) linear_finish_gated(const __grid_constant__ FinishGatedParams p) {
  const int column = blockIdx.y * 256 + threadIdx.x;
  if (column >= p.epilogue.half) return;
  const std::int64_t token = blockIdx.x;
  const float* sums = p.sums + token * 2 * p.epilogue.half;
  store_gated(p.epilogue, token, column, sums[column], sums[p.epilogue.half + column]);
}

}  // namespace inferd::cuda
