// Parameters of the kernels of rows.cu.
#pragma once

#include <cstdint>

namespace inferd::cuda {

/// out[i] = x[rows[i]], one block a row.
struct GatherRowsParams {
  const float* x;
  const std::int32_t* rows;
  float* out;
  std::int64_t x_stride;    // elements
  std::int64_t out_stride;  // elements
  std::int32_t columns;
};

/// tokens[i] = drawn[sources[i]] where that is not negative, one thread a token.
struct TakeTokensParams {
  std::int32_t* tokens;
  const std::int32_t* sources;
  const std::int32_t* drawn;
  std::int32_t count;
};

}  // namespace inferd::cuda
