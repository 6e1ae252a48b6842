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
  F16RowScale f16{};
  if (p.out.f16 != nullptr) {
    float largest = 0.0f;
    for (int column = first; column < p.columns; column += kStep) {
      load_row_chunk(x, column, p.columns, p.vectors, v);
      largest = fmaxf(largest, largest_of(v));
    }
    f16 = f16_row_scale(block_max<256>(largest, scratch));
    if (threadIdx.x == 0) p.out.f16_scale[row] = f16.scale;
  }
  for (int column = first; column - first < p.out.stride; column += kStep) {
    load_row_chunk(x, column, p.columns, p.vectors, v);
    write_activation_chunk(p.out, row, column, v, f16.inverse);
  }
}

}  // namespace inferd::cuda
