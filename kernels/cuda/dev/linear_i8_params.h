// Parameters and shapes of the int8 linear kernels (linear_i8.cuh).
#pragma once

#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

/// Rows [first_row, first_row + rows) of a product of T tokens: one part of a weight.
struct LinearI8Params {
  WeightPlanes weight;   // of WeightFormat::i8
  const std::int8_t* x;  // [T, x_stride]
  const float* x_scale;  // [T]
  std::int64_t x_stride;
  std::int32_t num_tokens;
  std::int32_t rows;  // of an interleaved gated part: gates and ups together
  std::int32_t first_row;
  std::int32_t row_tiles;
  bool interleaved;
  EpilogueParams epilogue;
};

inline constexpr int kLinearI8Threads = 256;
/// 127 * 128 * this is the largest sum that an int holds.
inline constexpr std::int64_t kMostI8Columns = 131072;

/// How a kernel divides its work: a block computes `tokens` tokens of row_warps * row_tiles row tiles; its 8 warps take
/// row_warps of them side by side, and every slices()-th k tile each.
struct LinearI8Tile {
  int tokens;
  int row_warps;
  int row_tiles;  // of a warp
  int depth;      // tiles of each row tile a warp has under way
  int stages;     // tiles of x under way

  constexpr int slices() const { return kLinearI8Threads / 32 / row_warps; }
  constexpr int block_row_tiles() const { return row_warps * row_tiles; }
  constexpr int block_rows() const { return block_row_tiles() * kRowTile; }
  constexpr int x_bytes() const { return tokens * kColumnTile; }  // of a slice's tile of x
  /// Words from one token to the next where the slices' sums meet: 4 modulo 16 keeps stores of fragments and loads of
  /// rows free of bank conflicts.
  constexpr int fold_stride() const { return block_rows() + 4; }
  /// Fragments that a thread of a block of one slice hands on at a time.
  static constexpr int kKept = 8;
  constexpr int fold_bytes() const {
    return slices() == 1 ? kKept * kLinearI8Threads * 16 : slices() * tokens * fold_stride() * 4;
  }
  constexpr int shared_bytes() const {
    const int x = stages * slices() * x_bytes();
    return x > fold_bytes() ? x : fold_bytes();
  }
};

/// Fewest tokens first. A tile decides nothing but speed: sums are exact.
inline constexpr int kNumLinearI8Tiles = 5;
constexpr LinearI8Tile linear_i8_tile(int index) {
  constexpr LinearI8Tile kTiles[kNumLinearI8Tiles] = {
      {8, 1, 1, 4, 4}, {16, 1, 2, 2, 4}, {32, 1, 2, 2, 3}, {64, 4, 1, 4, 3}, {128, 8, 2, 2, 3}};
  return kTiles[index];
}

}  // namespace inferd::cuda
