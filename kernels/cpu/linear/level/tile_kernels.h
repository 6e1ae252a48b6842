// The inner loops: one packed tile of 16 rows times a few tokens. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/formats.h"
#include "kernels/cpu/linear/linear_kernels.h"

namespace inferd {
namespace {

/// Tokens whose accumulators fit the registers together.
constexpr int kMaxPassTokens = INFERD_LEVEL_RANK == 3 ? 16 : 4;
constexpr int kParts = kTileRows / kLanes;
constexpr int kRawStride = kUnitColumns;
/// Tokens whose products of a unit are kept together.
constexpr int kStepTokens = INFERD_LEVEL_RANK == 1 || INFERD_LEVEL_RANK == 2 ? 32 : kTokenChunk;

/// Activations of the tokens of a pass, from token `token` (a multiple of kRowAlign) on.
struct PassInput {
  const ActivationBlock* blocks = nullptr;  // of token 0
  std::int64_t kblocks = 0;                 // of a row, from one to the next
  const float* f32 = nullptr;               // of the first token
  std::int64_t f32_stride = 0;
  std::int64_t token = 0;
  bool matrix_unit = false;  // whether AMX may be used
};

/// The first block of token x.token + t, a multiple of kRowAlign; the next three tokens' follow. The next block of a
/// token is kActivationGroup further.
INFERD_ALWAYS_INLINE const ActivationBlock* blocks_of(const PassInput& x, std::int64_t t) {
  const std::int64_t row = x.token + t;
  return x.blocks + row / kActivationGroup * kActivationGroup * x.kblocks + row % kActivationGroup;
}

/// acc += the products of one block of 32 columns with one token, given as exact sums: of all columns in `first`, or of
/// 0-15 there and of 16-31 in `second`. Every number of tokens does exactly this, in block order, so a row's result
/// does not depend on its company.
template <DType kType>
INFERD_ALWAYS_INLINE vf add_sums(vf acc, vi first, vi second, const BlockScales& scales, const ActivationBlock& x) {
  using F = Format<kType>;
  const vf scale = splat(x.scale);
  if constexpr (F::kHalves) {
    vf sum = to_float(first) * scales.w0;
    sum = multiply_add(to_float(second), scales.w1, sum);
    if constexpr (F::kMinima) {
      sum = multiply_add(to_float(minus_sum<Columns::first>(x)), scales.m0, sum);
      sum = multiply_add(to_float(minus_sum<Columns::second>(x)), scales.m1, sum);
    }
    return multiply_add(sum, scale, acc);
  } else {
    acc = multiply_add(to_float(first), scales.w0 * scale, acc);
    if constexpr (F::kMinima) acc = multiply_add(scales.m0, splat(x.sum), acc);
    return acc;
  }
}

/// What the sum of a block's products starts from: nothing, or what codes are too large by.
template <DType kType, Columns kColumns>
INFERD_ALWAYS_INLINE vi start_sum(const ActivationBlock& x) {
  using F = Format<kType>;
  if constexpr (F::kZeroShift >= 0) return shift_left<F::kZeroShift>(minus_sum<kColumns>(x));
  return zero_i();
}

/// acc += the products of one block with one token.
template <DType kType>
INFERD_ALWAYS_INLINE vf add_block(vf acc, const vb* weights, const BlockScales& scales, const ActivationBlock& x) {
  using F = Format<kType>;
  if constexpr (F::kHalves) {
    const vi first = dot_16<F::kDotBits>(start_sum<kType, Columns::first>(x), weights, x.quants);
    const vi second = dot_16<F::kDotBits>(start_sum<kType, Columns::second>(x), weights + 4, x.quants + 16);
    return add_sums<kType>(acc, first, second, scales, x);
  } else {
    vi sum = dot_32<F::kDotBits>(start_sum<kType, Columns::all>(x), weights, x.quants);
    if constexpr (F::kWide) {
      sum = dot_32<F::kDotBits>(shift_left<7>(sum), weights + 8, x.quants);  // below 2^27
    }
    return add_sums<kType>(acc, sum, sum, scales, x);
  }
}

/// How far ahead of its reads a pass asks for memory. Tiles lie in the order they are read, so this runs into the next
/// tiles, and across the pages at which hardware prefetching stops.
constexpr std::int64_t kPrefetchAhead = 8192;

template <int kBytes>
INFERD_ALWAYS_INLINE void prefetch(const std::byte* at) {
  for (int line = 0; line < kBytes; line += 64) __builtin_prefetch(at + line);
}

/// raw[t * kRawStride + lane] for kTokens tokens and the 16 lanes of `kblocks` blocks of a tile; with kMore added to
/// what raw holds of the blocks before.
template <DType kType, bool kMore, int kTokens>
void quantized_pass(const std::byte* tile, std::int64_t kblocks, const PassInput& x, float* raw) {
  using F = Format<kType>;
  constexpr int kRowGroups = (kTokens + kRowAlign - 1) / kRowAlign;
  constexpr int kGroupBytes = F::kPacked.group_bytes(kGroupBlocks);
  constexpr int kBytesPerBlock = kGroupBytes / kGroupBlocks;
  for (int part = 0; part < kParts; ++part) {
    vf acc[kTokens];
    for (int t = 0; t < kTokens; ++t) acc[t] = kMore ? load_f(raw + t * kRawStride + part * kLanes) : zero_f();
    const std::byte* group = tile;
    const ActivationBlock* rows[kRowGroups];
    for (int g = 0; g < kRowGroups; ++g) rows[g] = blocks_of(x, g * kRowAlign);
    for (std::int64_t left = kblocks; left > 0; left -= kGroupBlocks, group += kGroupBytes) {
      const int blocks = left < kGroupBlocks ? static_cast<int>(left) : kGroupBlocks;
      const std::byte* scales = group + blocks * F::kPacked.payload_bytes;
      for (int block = 0; block < blocks; ++block) {
        if (part == 0) prefetch<kBytesPerBlock>(group + kPrefetchAhead + block * kBytesPerBlock);
        vb weights[F::kVectors];
        F::unpack(group + block * F::kPacked.payload_bytes + part * 4 * kLanes, weights);
        const BlockScales s = load_scales<kType>(scales, block, part);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          acc[t] = add_block<kType>(acc[t], weights, s, rows[t / kRowAlign][t % kRowAlign]);
        }
        for (int g = 0; g < kRowGroups; ++g) rows[g] += kActivationGroup;
      }
    }
    for (int t = 0; t < kTokens; ++t) store_f(raw + t * kRawStride + part * kLanes, acc[t]);
  }
}

struct F32Elements {
  static constexpr int kBytes = 4;
  static INFERD_ALWAYS_INLINE vf load(const std::byte* at) { return load_f(reinterpret_cast<const float*>(at)); }
};
struct F16Elements {
  static constexpr int kBytes = 2;
  static INFERD_ALWAYS_INLINE vf load(const std::byte* at) { return load_f16(at); }
};
struct Bf16Elements {
  static constexpr int kBytes = 2;
  static INFERD_ALWAYS_INLINE vf load(const std::byte* at) { return load_bf16(at); }
};

/// Columns summed before their sum joins the total: keeps the rounding error of long rows small.
constexpr std::int64_t kPlainRun = 256;

/// Tokens of one pass over plain tiles: fewer than of quantised ones, for two vectors of weights share each activation.
constexpr int kMaxPlainTokens = INFERD_LEVEL_RANK == 3 ? 8 : 4;

/// raw for kTokens tokens and the lanes of kTiles neighbouring [columns][16] tiles.
template <typename Elements, int kTokens, int kTiles>
void plain_pass(const std::byte* const* tiles, std::int64_t columns, const PassInput& x, float* raw) {
  constexpr int kTileVectors = kParts < 2 ? 1 : 2;  // of one tile, together in registers
  constexpr int kVectors = kTiles * kTileVectors;
  constexpr int kStep = kTileRows * Elements::kBytes;
  // Tiles read side by side are not one stream: ask for the same place in the tiles that follow.
  const std::int64_t ahead = kTiles > 1 ? columns * kStep * kTiles : kPrefetchAhead;
  for (int part = 0; part < kParts; part += kTileVectors) {
    vf total[kTokens][kVectors];
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) total[t][v] = zero_f();
    }
    const std::byte* at[kTiles];
    for (int i = 0; i < kTiles; ++i) at[i] = tiles[i] + part * kLanes * Elements::kBytes;
    for (std::int64_t begin = 0; begin < columns; begin += kPlainRun) {
      const std::int64_t end = begin + kPlainRun < columns ? begin + kPlainRun : columns;
      vf acc[kTokens][kVectors];
      for (int t = 0; t < kTokens; ++t) {
        for (int v = 0; v < kVectors; ++v) acc[t][v] = zero_f();
      }
      for (std::int64_t k = begin; k < end; ++k) {
        vf w[kVectors];
        for (int i = 0; i < kTiles; ++i) {
          for (int v = 0; v < kTileVectors; ++v) {
            w[i * kTileVectors + v] = Elements::load(at[i] + v * kLanes * Elements::kBytes);
          }
          if (part == 0) __builtin_prefetch(at[i] + ahead, 0, kTiles > 1 ? 2 : 3);
          at[i] += kStep;
        }
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
          const vf value = splat(x.f32[t * x.f32_stride + k]);
          for (int v = 0; v < kVectors; ++v) acc[t][v] = multiply_add(w[v], value, acc[t][v]);
        }
      }
      for (int t = 0; t < kTokens; ++t) {
        for (int v = 0; v < kVectors; ++v) total[t][v] = total[t][v] + acc[t][v];
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int i = 0; i < kTiles; ++i) {
        for (int v = 0; v < kTileVectors; ++v) {
          store_f(raw + t * kRawStride + i * kTileRows + (part + v) * kLanes, total[t][i * kTileVectors + v]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace inferd
