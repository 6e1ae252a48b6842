// Parameters and shapes of the tensor-core linear kernels (linear_mma.cuh).
#pragma once

#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

/// Rows [first_row, first_row + rows) of a product of T tokens: one part of a weight.
struct LinearMmaParams {
  WeightPlanes weight;
  const std::uint16_t* x;  // [T, x_stride] f16 or bf16, by the weight's format
  const float* x_scale;    // [T], f16 only
  const float* x_sums;     // [T, x_stride / 16], f16 only
  std::int64_t x_stride;   // padded columns
  std::int32_t num_tokens;
  std::int32_t rows;  // of an interleaved gated part: gates and ups together
  std::int32_t first_row;
  std::int32_t row_tiles;
  bool interleaved;
  EpilogueParams epilogue;
};

/// K is cut into this many slices, whatever the shape; sums of slices are added in their order.
inline constexpr int kLinearSlices = 8;
inline constexpr int kLinearThreads = 256;

/// How a kernel divides its work: a block computes `tokens` tokens of row_warps * row_tiles row tiles; its 8 warps take
/// row_warps of them side by side, and 8 / row_warps slices at a time.
struct LinearTile {
  int tokens;
  int row_warps;
  int row_tiles;  // of a warp
  int depth;      // tiles of each row tile a warp has under way
  int stages;     // tiles of x under way

  constexpr int slice_warps() const { return kLinearThreads / 32 / row_warps; }
  constexpr int block_row_tiles() const { return row_warps * row_tiles; }
  constexpr int block_rows() const { return block_row_tiles() * kRowTile; }
  /// Bytes of the tile of x of one slice: values, then sums of 16 columns.
  constexpr int x_bytes(bool sums) const { return tokens * (2 * kColumnTile + (sums ? 16 : 0)); }
  /// Slices whose sums are in shared memory at once; none if each warp folds its own.
  constexpr int folded_slices() const { return slice_warps() == 1 ? 0 : tokens < 32 ? slice_warps() : 64 / tokens; }
  /// Floats from one token to the next there: 4 modulo 16 keeps stores of fragments and loads of rows free of bank
  /// conflicts.
  constexpr int fold_stride() const { return block_rows() + 4; }
  constexpr int fold_bytes() const {
    return slice_warps() == 1 ? tokens * block_rows() * 4 : folded_slices() * tokens * fold_stride() * 4;
  }
  constexpr int shared_bytes(bool sums) const { return stages * slice_warps() * x_bytes(sums) + fold_bytes(); }
};

/// The tiles of a format, fewest tokens first. A tile decides nothing but speed.
inline constexpr int kNumLinearTiles = 5;
constexpr LinearTile linear_tile(int index, const WeightLayout& weights) {
  const bool narrow = weights.bits <= 6;
  // Formats whose scales take so many registers that two tiles under way leave too few for 64 tokens.
  const bool wide_scales = weights.group == 16 && (weights.has_min || weights.scale_bytes >= 256);
  const int depth = weights.bits <= 4 && weights.scale_bytes < 256 ? 4 : 2;
  switch (index) {
    case 0:
      return {8, 1, narrow ? 2 : 1, depth, 4};
    case 1:
      return {16, 2, 1, depth, 4};
    case 2:
      return {32, 2, 1, depth, 3};
    case 3:
      return {64, 4, 1, wide_scales ? 1 : 2, 2};
    default:
      return {64, 8, weights.bits == 16 ? 2 : 1, 2, 3};
  }
}

}  // namespace inferd::cuda
