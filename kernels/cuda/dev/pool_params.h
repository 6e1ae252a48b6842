// Parameters of the kernels of pool.cu.
#pragma once

#include <cstdint>

namespace inferd::cuda {

enum class PooledRows : std::int32_t { all_mean, all_max, first, last };

/// PoolArgs; grid: (sequences, strips of 32 columns).
struct PoolParams {
  const float* x;
  const std::int32_t* query_starts;  // [S + 1]
  float* out;
  std::int64_t x_stride;  // elements
  std::int64_t out_stride;
  std::int32_t columns;
  PooledRows rows;
  std::int32_t vectors;  // rows of x are 16-byte aligned
};

/// Divides rows by their L2 norm, in place; one block a row.
struct NormalizeParams {
  float* rows;
  std::int64_t stride;  // elements
  std::int32_t columns;
};

}  // namespace inferd::cuda
