// Pooling a sequence's rows to one vector, and dividing that by its L2 norm.
#include "kernels/cuda/dev/pool_params.h"
#include "kernels/cuda/dev/rows.cuh"

namespace inferd::cuda {
namespace {

constexpr int kStrip = 32;   // columns of a block
constexpr int kGroups = 32;  // rows it reads at once, 8 lanes each
constexpr int kPitch = 40;   // of a group's row in shared memory: neighbouring groups take different banks

__device__ float larger(float a, float b) { return b > a || isnan(b) ? b : a; }  // NaN stays

}  // namespace

// Group g of eight lanes takes rows g, g + 32, ... of the sequence, four columns a lane, and sums them in f64; then the
// groups are added in order.
extern "C" __global__ void __launch_bounds__(256) pool(const __grid_constant__ PoolParams p) {
  __shared__ double sums[kGroups][kPitch];
  __shared__ float maxima[kGroups][kPitch];
  std::int32_t begin = p.query_starts[blockIdx.x], end = p.query_starts[blockIdx.x + 1];
  if (p.rows == PooledRows::first) end = begin + 1;
  if (p.rows == PooledRows::last) begin = end - 1;
  const int group = threadIdx.x / 8, lane = threadIdx.x % 8;
  const int column = blockIdx.y * kStrip + 4 * lane;
  const bool mean = p.rows == PooledRows::all_mean;
  double sum[4] = {};
  float most[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  for (std::int32_t row = begin + group; row < end; row += kGroups) {
    const float* x = p.x + row * p.x_stride + column;
    float v[4];
    if (p.vectors && column + 4 <= p.columns) {
      load_floats(v, x);
    } else {
      for (int i = 0; i < 4; ++i) v[i] = column + i < p.columns ? x[i] : 0.0f;
    }
    for (int i = 0; i < 4; ++i) {
      if (mean) {
        sum[i] += static_cast<double>(v[i]);
      } else {
        most[i] = larger(most[i], v[i]);
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    sums[group][8 * i + lane] = sum[i];
    maxima[group][8 * i + lane] = most[i];
  }
  __syncthreads();
  const int here = blockIdx.y * kStrip + threadIdx.x % 8 * 4 + threadIdx.x / 8;
  if (threadIdx.x >= kStrip || here >= p.columns) return;
  double total = 0.0;
  float largest = -INFINITY;
  for (int g = 0; g < kGroups; ++g) {
    total += sums[g][threadIdx.x];
    largest = larger(largest, maxima[g][threadIdx.x]);
  }
  p.out[blockIdx.x * p.out_stride + here] = mean ? static_cast<float>(total / (end - begin)) : largest;
}

// x / max(|x|, 1e-12), as torch.nn.functional.normalize.
extern "C" __global__ void __launch_bounds__(256) normalize_rows(const __grid_constant__ NormalizeParams p) {
  __shared__ double sums[256];
  float* row = p.rows + blockIdx.x * p.stride;
  double squares = 0.0;
  for (int i = threadIdx.x; i < p.columns; i += 256) {
    squares += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  }
  sums[threadIdx.x] = squares;
  for (int distance = 128; distance > 0; distance /= 2) {
    __syncthreads();
    if (threadIdx.x < distance) sums[threadIdx.x] += sums[threadIdx.x + distance];
  }
  __syncthreads();
  const double norm = sqrt(sums[0]);
  const double factor = 1.0 / (norm < 1e-12 ? 1e-12 : norm);  // NaN passes through
  for (int i = threadIdx.x; i < p.columns; i += 256) row[i] = static_cast<float>(static_cast<double>(row[i]) * factor);
}

}  // namespace inferd::cuda
