// Parameters of the kernels of lora.cu.
#pragma once

#include <cstdint>

#include "kernels/cuda/activation.h"

namespace inferd::cuda {

/// Rows [first_row, first_row + rows) of an update: B times entries [first_rank, first_rank + rank) of A x.
struct LowRankPart {
  const float* b;  // [rank, rows]: transposed
  std::int32_t first_rank;
  std::int32_t rank;
  std::int32_t first_row;
  std::int32_t rows;
};

/// An adapter's update of one layer; a is null where it has none.
struct LowRankView {
  const float* a;            // [rank, padded columns]: all parts' A stacked
  const LowRankPart* parts;  // device, [num_parts]
  std::int32_t rank;
  std::int32_t num_parts;
};

/// Updates of one launch; further ones take launches of their own.
inline constexpr int kLoraUpdates = 64;

struct LoraParams {
  LowRankView updates[kLoraUpdates];  // adapters [first, first + count)
  std::int32_t first;
  std::int32_t count;
  ActivationPlanes x;
  const std::int32_t* adapters;  // [T]
  float* shrunk;                 // [T, shrunk_stride]
  float* out;                    // [T, rows]
  std::int64_t shrunk_stride;
  std::int64_t out_stride;
  std::int32_t rows;
};

inline constexpr int kShrinkRanks = 8;   // of a block of lora_shrink
inline constexpr int kExpandRows = 256;  // of a block of lora_expand

}  // namespace inferd::cuda
