// One packed tile times many tokens on the matrix unit (AMX): exact sums of 16 rows, 16 tokens and 32 columns at a
// time, scaled and added as every other pass does, so with the same bits. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/matrix_unit.h"
#include "kernels/cpu/linear/level/prepared_blocks.h"

namespace inferd {
namespace {

// Tile registers.
constexpr int kSumsTile = 0;        // 16 tokens of 16 sums
constexpr int kTokensTile = 1;      // 16 tokens of 32 columns
constexpr int kHalfTokensTile = 2;  // 16 tokens of 16 columns
constexpr int kBlockTile = 3;       // 32 columns of 16 rows, four columns to a register row
constexpr int kHalfBlockTile = 4;   // 16 columns of 16 rows

constexpr TileConfig block_tiles() {
  TileConfig config;
  config.set(kSumsTile, 16, 64);
  config.set(kTokensTile, 16, 32);
  config.set(kHalfTokensTile, 16, 16);
  config.set(kBlockTile, 8, 64);
  config.set(kHalfBlockTile, 4, 64);
  return config;
}
constexpr TileConfig kBlockTiles = block_tiles();

/// Tokens that a group of blocks is unpacked for.
constexpr int kMatrixTokens = 64;
/// From how many tokens on the matrix unit pays; of types with a scale for 16 columns, which leave half of it idle.
constexpr int kFewestMatrixTokens = 5;
constexpr int kFewestMatrixTokensOfHalves = 32;

/// Sets of exact sums of a block's products with 16 tokens; each [16 tokens][16 rows].
template <DType kType>
constexpr int kSumSets = Format<kType>::kHalves || Format<kType>::kWide ? 2 : 1;
constexpr int kSumSet = kActivationGroup * kTileRows;

/// The blocks of a panel times the 16 tokens of an activation group, from block `x` of its first row on. Asks for the
/// memory at `ahead` meanwhile, a block's bytes at a time, or memory would be waited for in turn with the sums.
template <DType kType>
INFERD_ALWAYS_INLINE void multiply_panel(const std::byte* panel, int blocks, const ActivationBlock* x,
                                         const std::byte* ahead, std::int32_t* sums) {
  using F = Format<kType>;
  constexpr int kStride = sizeof(ActivationBlock);
  constexpr int kSumBytes = kTileRows * sizeof(std::int32_t);
  constexpr int kHalfBytes = 4 * 64;  // of the panel's vectors: 16 columns
  constexpr int kBytesPerBlock = F::kPacked.group_bytes(kGroupBlocks) / kGroupBlocks;
  for (int block = 0; block < blocks; ++block) {
    if (ahead != nullptr) prefetch<kBytesPerBlock>(ahead + block * kBytesPerBlock);
    if constexpr (F::kHalves) {
      for (int half = 0; half < 2; ++half) {
        tile_load<kHalfBlockTile>(panel + half * kHalfBytes, 64);
        tile_load<kHalfTokensTile>(x->quants + half * 16, kStride);
        tile_zero<kSumsTile>();
        tile_multiply<kSumsTile, kHalfTokensTile, kHalfBlockTile>();
        tile_store<kSumsTile>(sums + half * kSumSet, kSumBytes);
      }
    } else {
      tile_load<kTokensTile>(x->quants, kStride);
      for (int set = 0; set < kSumSets<kType>; ++set) {
        tile_load<kBlockTile>(panel + set * 2 * kHalfBytes, 64);
        tile_zero<kSumsTile>();
        tile_multiply<kSumsTile, kTokensTile, kBlockTile>();
        tile_store<kSumsTile>(sums + set * kSumSet, kSumBytes);
      }
    }
    panel += Prepared<kType>::kBytes;
    x += kActivationGroup;
    sums += kSumSets<kType> * kSumSet;
  }
}

/// raw += scaled sums of kTokens tokens, whose first has its sums at `sums` and its block at `x`.
template <DType kType, int kTokens>
INFERD_ALWAYS_INLINE void scale_sums(const std::byte* panel, int blocks, const ActivationBlock* x,
                                     const std::int32_t* sums, float* raw) {
  using F = Format<kType>;
  vf acc[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) acc[t] = load_f(raw + t * kRawStride);
  for (int block = 0; block < blocks; ++block) {
    const BlockScales scales = Prepared<kType>::scales(panel, 0);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      vi first = load_ints(sums + t * kTileRows), second = first;
      if constexpr (kSumSets<kType> == 2) second = load_ints(sums + kSumSet + t * kTileRows);
      if constexpr (F::kWide) first = second = add_i(shift_left<7>(first), second);
      acc[t] = add_sums<kType>(acc[t], first, second, scales, x[t]);
    }
    panel += Prepared<kType>::kBytes;
    x += kActivationGroup;
    sums += kSumSets<kType> * kSumSet;
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) store_f(raw + t * kRawStride, acc[t]);
}

/// `kblocks` blocks of a tile times at most kMatrixTokens tokens; with kMore added to raw.
template <DType kType, bool kMore>
void amx_tile(const std::byte* tile, std::int64_t kblocks, int tokens, const PassInput& chunk, float* raw) {
  using P = Prepared<kType>;
  constexpr int kGroupBytes = P::F::kPacked.group_bytes(kGroupBlocks);
  alignas(64) std::byte panel[kGroupBlocks * P::kBytes];
  alignas(64) std::int32_t sums[kGroupBlocks * kSumSets<kType> * kSumSet];
  for (int t = 0; t < tokens && !kMore; ++t) std::memset(raw + t * kRawStride, 0, kTileRows * sizeof(float));
  PassInput x = chunk;
  for (std::int64_t begin = 0; begin < kblocks; begin += kGroupBlocks, x.blocks += kGroupBlocks * kActivationGroup) {
    const std::int64_t left = kblocks - begin;
    const int blocks = left < kGroupBlocks ? static_cast<int>(left) : kGroupBlocks;
    const std::byte* ahead = tile + begin / kGroupBlocks * kGroupBytes + kPrefetchAhead;
    prepare_panel<kType>(tile, begin, blocks, kblocks, panel);
    for (int done = 0; done < tokens;) {
      const int row = static_cast<int>((x.token + done) % kActivationGroup);
      const int end = tokens - done < kActivationGroup - row ? tokens : done + kActivationGroup - row;
      const ActivationBlock* at = blocks_of(x, done);
      multiply_panel<kType>(panel, blocks, at - row, done == 0 ? ahead : nullptr, sums);
      const std::int32_t* own = sums + row * kTileRows;
      float* out = raw + done * kRawStride;
      for (; end - done >= 8; done += 8, at += 8, own += 8 * kTileRows, out += 8 * kRawStride) {
        scale_sums<kType, 8>(panel, blocks, at, own, out);
      }
      for (; done < end; ++done, ++at, own += kTileRows, out += kRawStride) {
        scale_sums<kType, 1>(panel, blocks, at, own, out);
      }
    }
  }
}

}  // namespace
}  // namespace inferd
