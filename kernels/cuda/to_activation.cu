// f32 rows into the forms linear layers read.
#include "kernels/cuda/dev/activation_out.cuh"
#include "kernels/cuda/dev/to_activation_params.h"

namespace inferd::cuda {

extern "C" __global__ void __launch_bounds__(256) to_activation(const __grid_constant__ ToActivationParams p) {
  __shared__ float scratch[8];
  const std::int64_t row = blockIdx.x;
  const float* x = p.x + row * p.x_stride;
  const int first = threadIdx.x * kActivationChunk;
  constexpr int kStep = 256 * kActivationChunk;
  float v[kActivationChunk];
  RowFactors factors{};
  if (has_row_scales(p.out)) {
    float largest = 0.0f;
    for (int column = first; column < p.columns; column += kStep) {
      load_row_chunk(x, column, p.columns, p.vectors, v);
      largest = larger(largest, largest_of(v));
    }
    factors = write_row_scales(p.out, row, block_max<256>(largest, scratch));
  }
  for (int column = first; column - first < p.out.stride; column += kStep) {
    load_row_chunk(x, column, p.columns, p.vectors, v);
    write_activation_chunk(p.out, row, column, v, factors);
  }
}

}  // namespace inferd::cuda
