// The blocks of a product on tensor cores.
#pragma once

#include <cstdint>

#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// One block for each `tile` (LinearTile or LinearI8Tile) of num_tokens tokens and row_tiles row tiles; blocks that
/// share weights run side by side.
template <typename Tile>
Grid linear_grid(const Tile& tile, std::int64_t num_tokens, std::int64_t row_tiles) {
  const auto blocks = [](std::int64_t count, std::int64_t size) {
    return static_cast<unsigned>((count + size - 1) / size);
  };
  return {blocks(num_tokens, tile.tokens), blocks(row_tiles, tile.block_row_tiles()), 1};
}

}  // namespace inferd::cuda
