// RMSNorm and LayerNorm: one block a row, the row in registers where they hold it.
#include "kernels/cuda/dev/activation_out.cuh"
#include "kernels/cuda/dev/norm_params.h"
#include "kernels/cuda/dev/rows.cuh"

namespace inferd::cuda {
namespace {

/// The sum over the block in every thread: lanes as a tree, then warps in order. `scratch`: threads / 32 floats that
/// nobody else uses.
template <int threads>
__device__ float block_sum(float value, float* scratch) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  for (int i = 1; i < threads / 32; ++i) value += scratch[i];
  return value;
}

__device__ void store_row_chunk(float* row, int column, int columns, bool vectors, const float (&v)[kActivationChunk]) {
  if (vectors && column + kActivationChunk <= columns) {
    ptx::store_global(reinterpret_cast<float4*>(row + column), make_float4(v[0], v[1], v[2], v[3]));
    ptx::store_global(reinterpret_cast<float4*>(row + column + 4), make_float4(v[4], v[5], v[6], v[7]));
    return;
  }
  for (int i = 0; i < kActivationChunk && column + i < columns; ++i) row[column + i] = v[i];
}

/// v = v * factor * weight + what is added.
__device__ void finish_chunk(const NormParams& p, std::int64_t row, int column, float factor,
                             float (&v)[kActivationChunk]) {
  float w[kActivationChunk];
  load_row_chunk(p.weight, column, p.columns, p.vectors, w);
#pragma unroll
  for (int i = 0; i < kActivationChunk; ++i) v[i] = v[i] * factor * w[i];
  if (p.added == nullptr) return;
  load_row_chunk(p.added + row * p.added_stride, column, p.columns, p.vectors, w);
#pragma unroll
  for (int i = 0; i < kActivationChunk; ++i) v[i] += w[i];
}

__device__ float sum_of(const float (&v)[kActivationChunk]) {
  float sum = v[0];
#pragma unroll
  for (int i = 1; i < kActivationChunk; ++i) sum += v[i];
  return sum;
}

/// Takes `mean` off the chunk's elements inside the row; returns the sum of their squares.
__device__ float centre_chunk(const NormParams& p, int column, float mean, float (&v)[kActivationChunk]) {
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kActivationChunk; ++i) {
    v[i] = column + i < p.columns ? v[i] - mean : 0.0f;
    squares += v[i] * v[i];
  }
  return squares;
}

/// Thread t holds columns [8 (k threads + t), + 8) for each k < slots; behind the row are zeros.
template <int threads, int slots>
__device__ void norm_row(const NormParams& p) {
  __shared__ float scratch[3][threads / 32];
  const std::int64_t row = blockIdx.x;
  const auto column_of = [](int k) { return static_cast<int>(k * threads + threadIdx.x) * kActivationChunk; };
  const auto count = static_cast<float>(p.columns);
  float v[slots][kActivationChunk];
#pragma unroll
  for (int k = 0; k < slots; ++k) load_row_chunk(p.x + row * p.x_stride, column_of(k), p.columns, p.vectors, v[k]);
  float mean = 0.0f;
  if (p.centred) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < slots; ++k) sum += sum_of(v[k]);
    mean = block_sum<threads>(sum, scratch[0]) / count;
  }
  float squares = 0.0f;
#pragma unroll
  for (int k = 0; k < slots; ++k) squares += centre_chunk(p, column_of(k), mean, v[k]);
  const float factor = rsqrtf(block_sum<threads>(squares, scratch[1]) / count + p.eps);
  float largest = 0.0f;
#pragma unroll
  for (int k = 0; k < slots; ++k) {
    finish_chunk(p, row, column_of(k), factor, v[k]);
    if (p.out != nullptr) store_row_chunk(p.out + row * p.out_stride, column_of(k), p.columns, p.vectors, v[k]);
    largest = larger(largest, largest_of(v[k]));
  }
  if (p.into.stride == 0) return;
  RowFactors factors{};
  if (has_row_scales(p.into)) factors = write_row_scales(p.into, row, block_max<threads>(largest, scratch[2]));
#pragma unroll
  for (int k = 0; k < slots; ++k) write_activation_chunk(p.into, row, column_of(k), v[k], factors);
}

/// Rows that registers do not hold are read once for each sum; all but the first time from cache.
template <int threads>
__device__ void norm_wide_row(const NormParams& p) {
  __shared__ float scratch[3][threads / 32];
  const std::int64_t row = blockIdx.x;
  const float* x = p.x + row * p.x_stride;
  const auto count = static_cast<float>(p.columns);
  constexpr int kStep = threads * kActivationChunk;
  const int first = threadIdx.x * kActivationChunk;
  float v[kActivationChunk];
  float mean = 0.0f;
  if (p.centred) {
    float sum = 0.0f;
    for (int column = first; column < p.columns; column += kStep) {
      load_row_chunk(x, column, p.columns, p.vectors, v);
      sum += sum_of(v);
    }
    mean = block_sum<threads>(sum, scratch[0]) / count;
  }
  float squares = 0.0f;
  for (int column = first; column < p.columns; column += kStep) {
    load_row_chunk(x, column, p.columns, p.vectors, v);
    squares += centre_chunk(p, column, mean, v);
  }
  const float factor = rsqrtf(block_sum<threads>(squares, scratch[1]) / count + p.eps);
  const auto result = [&](int column) {
    load_row_chunk(x, column, p.columns, p.vectors, v);
    centre_chunk(p, column, mean, v);
    finish_chunk(p, row, column, factor, v);
  };
  RowFactors factors{};
  if (has_row_scales(p.into)) {
    float largest = 0.0f;
    for (int column = first; column < p.columns; column += kStep) {
      result(column);
      largest = larger(largest, largest_of(v));
    }
    factors = write_row_scales(p.into, row, block_max<threads>(largest, scratch[2]));
  }
  const std::int64_t end = p.into.stride == 0 ? p.columns : p.into.stride;
  for (int column = first; column - first < end; column += kStep) {
    result(column);
    if (p.out != nullptr) store_row_chunk(p.out + row * p.out_stride, column, p.columns, p.vectors, v);
    if (p.into.stride != 0) write_activation_chunk(p.into, row, column, v, factors);
  }
}

}  // namespace

// By the most columns.
extern "C" __global__ void __launch_bounds__(128) norm_1024(const __grid_constant__ NormParams p) {
  norm_row<128, 1>(p);
}
extern "C" __global__ void __launch_bounds__(256) norm_2048(const __grid_constant__ NormParams p) {
  norm_row<256, 1>(p);
}
extern "C" __global__ void __launch_bounds__(512) norm_4096(const __grid_constant__ NormParams p) {
  norm_row<512, 1>(p);
}
extern "C" __global__ void __launch_bounds__(512) norm_8192(const __grid_constant__ NormParams p) {
  norm_row<512, 2>(p);
}
extern "C" __global__ void __launch_bounds__(1024) norm_wide(const __grid_constant__ NormParams p) {
  norm_wide_row<1024>(p);
}

}  // namespace inferd::cuda
