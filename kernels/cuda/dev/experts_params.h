// Parameters of the kernels of mixtures of experts (experts.cu and the experts_* of linear_mma.cuh).
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/dev/linear_mma_params.h"

namespace inferd::cuda {

inline constexpr int kMostExperts = 1024;        // of a layer: kMaxExperts of ops.h
inline constexpr int kMostExpertsPerToken = 32;  // kMaxExpertsPerToken
inline constexpr int kExpertRowStep = 4;         // kExpertRowAlign

/// A warp for each token: its experts, rising, and what they count.
struct RouteTokensParams {
  const float* logits;  // [T, logits_stride]
  std::int64_t logits_stride;
  std::int32_t* experts;  // [T, top_k]
  float* weights;         // [T, top_k]
  std::int32_t num_tokens;
  std::int32_t num_experts;
  std::int32_t top_k;
  bool normalize;
};

/// Rows [first, end), or the first of them that fit a block, of an expert; -1: none.
struct alignas(16) ExpertTile {
  std::int32_t expert;
  std::int32_t first;
  std::int32_t end;
  std::int32_t unused;
};

/// One block: the rows of each expert, and the tiles of `tile_rows` rows that cover them.
struct RouteRowsParams {
  const std::int32_t* experts;  // [picks], of each token rising
  std::int32_t* starts;         // [num_experts]
  std::int32_t* counts;         // [num_experts]
  std::int32_t* tokens;         // [rows], -1: none
  std::int32_t* places;         // [picks]
  ExpertTile* tiles;            // [num_tiles]
  std::int32_t picks;
  std::int32_t top_k;
  std::int32_t num_experts;
  std::int32_t rows;
  std::int32_t num_tiles;
  std::int32_t tile_rows;
};

/// Row i of `out` becomes row rows[i] of x, in out's forms; a block a row.
struct GatherActivationParams {
  ActivationPlanes x;
  ActivationPlanes out;
  const std::int32_t* rows;
};

/// A block a token.
struct CombineExpertsParams {
  const float* product;  // [rows, product_stride]
  std::int64_t product_stride;
  const std::int32_t* places;  // [T, top_k]
  const float* weights;        // [T, top_k]
  const float* shared;         // [T, shared_stride] or null
  std::int64_t shared_stride;
  const float* gate;  // [T, gate_stride], with shared
  std::int64_t gate_stride;
  float* x;  // [T, x_stride]
  std::int64_t x_stride;
  std::int32_t columns;
  std::int32_t top_k;
};

/// Product of each expert's rows with its weights, all alike. Block x is a tile of the plan.
struct ExpertMmaParams {
  LinearMmaParams linear;        // weight.data and num_tokens are the tile's; of the epilogue out and half count
  const std::byte* const* data;  // [num_experts]
  const ExpertTile* tiles;
};

}  // namespace inferd::cuda
