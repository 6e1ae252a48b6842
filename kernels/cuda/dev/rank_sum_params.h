// Parameters of the kernel of rank_sum.cu.
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

}  // namespace inferd::cuda
