// Parameters of the kernels of ranks.cu.
#pragma once

#include <cstdint>

namespace inferd::cuda {

/// out[i] = parts[0][i] + parts[1][i] + ..., in this order.
struct SumRanksParams {
  const float* parts;  // [ranks, count]
  float* out;          // [count]
  std::int64_t count;
  std::int32_t ranks;
  std::int32_t vectors;  // 1: count is a multiple of 4 and both are 16-byte aligned
};

/// out[t][rank * columns + c] = parts[rank][t][c]; block (t, rank).
struct JoinRanksParams {
  const float* parts;  // [ranks, tokens, columns]
  float* out;          // [tokens, out_stride]
  std::int64_t tokens;
  std::int64_t out_stride;  // elements
  std::int32_t columns;
};

}  // namespace inferd::cuda
