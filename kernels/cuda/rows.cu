// Copies of rows, and of tokens.
#include "kernels/cuda/dev/rows_params.h"

namespace inferd::cuda {

extern "C" __global__ void __launch_bounds__(256) gather_rows(const __grid_constant__ GatherRowsParams p) {
  const float* from = p.x + p.rows[blockIdx.x] * p.x_stride;
  float* to = p.out + blockIdx.x * p.out_stride;
  for (int i = threadIdx.x; i < p.columns; i += 256) to[i] = from[i];
}

extern "C" __global__ void __launch_bounds__(256) take_tokens(const __grid_constant__ TakeTokensParams p) {
  const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  if (i >= p.count) return;
  const int source = p.sources[i];
  if (source >= 0) p.tokens[i] = p.drawn[source];
}

}  // namespace inferd::cuda
