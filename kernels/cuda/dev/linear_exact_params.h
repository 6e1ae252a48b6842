// Parameters of the exact linear kernels (linear_exact.cuh).
#pragma once

#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

/// Rows [first_row, first_row + rows) of a product of T tokens: one part of a weight.
struct LinearExactParams {
  WeightPlanes weight;
  const std::int32_t* column_order;  // [padded columns] or null, see CudaWeight::Part
  const float* x;                    // [T, x_stride]
  std::int64_t x_stride;             // padded columns
  std::int32_t num_tokens;
  std::int32_t token_tiles;
  std::int32_t rows;  // of an interleaved gated part: gates and ups together
  std::int32_t first_row;
  bool interleaved;
  EpilogueParams epilogue;
};

inline constexpr int kExactTokens = 8;  // of a block

}  // namespace inferd::cuda
