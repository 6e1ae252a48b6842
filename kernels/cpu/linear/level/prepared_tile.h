// One packed tile times many tokens where the registers hold the sums of few: the tile is unpacked once, one panel of
// blocks after another, and every four tokens read the panel from the first-level cache. For levels of two vectors a
// tile (avx2, avxvnni). Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/tile_kernels.h"

namespace inferd {
namespace {

/// What a panel may take of a first-level cache of 32 KiB; activations and sums pass through the rest.
constexpr int kPanelBytes = 20 << 10;

/// A block unpacked: Format::unpack's vectors, [kVectors][kParts], their magnitudes where dot products want them, and
/// the scales, [w0, w1, m0, m1 as far as there are][kParts].
template <DType kType>
struct Prepared {
  using F = Format<kType>;
  static constexpr bool kMagnitudes = F::kDotBits == 8 && !kUnsignedBytes;
  static constexpr int kWeights = F::kVectors * kParts;
  static constexpr int kScales = (F::kHalves ? 2 : 1) * (F::kMinima ? 2 : 1);
  static constexpr int kVectorBytes = 4 * kLanes;
  static constexpr int kMagnitudesAt = kWeights * kVectorBytes;
  static constexpr int kScalesAt = kMagnitudesAt * (kMagnitudes ? 2 : 1);
  static constexpr int kBytes = kScalesAt + kScales * kParts * kVectorBytes;
  static constexpr int kBlocks = kPanelBytes / kBytes / kGroupBlocks * kGroupBlocks;  // whole groups
  static_assert(kBlocks > 0);

  static INFERD_ALWAYS_INLINE vb weight(const std::byte* block, int group, int part) {
    return load_bytes(block + (group * kParts + part) * kVectorBytes);
  }
  static INFERD_ALWAYS_INLINE vb magnitude(const std::byte* block, int group, int part) {
    return weight(block + kMagnitudesAt, group, part);
  }
  static INFERD_ALWAYS_INLINE vf scale(const std::byte* block, int which, int part) {
    return load_f(reinterpret_cast<const float*>(block + kScalesAt + (which * kParts + part) * kVectorBytes));
  }
  static INFERD_ALWAYS_INLINE BlockScales scales(const std::byte* block, int part) {
    BlockScales s;
    s.w0 = scale(block, 0, part);
    s.w1 = s.m0 = s.m1 = zero_f();
    if constexpr (F::kHalves) s.w1 = scale(block, 1, part);
    if constexpr (F::kMinima) s.m0 = scale(block, F::kHalves ? 2 : 1, part);
    if constexpr (F::kHalves && F::kMinima) s.m1 = scale(block, 3, part);
    return s;
  }

  /// Unpacks block `index` of a group.
  static INFERD_ALWAYS_INLINE void fill(const std::byte* payload, const std::byte* stored_scales, int index,
                                        std::byte* block) {
    for (int part = 0; part < kParts; ++part) {
      vb weights[F::kVectors];
      F::unpack(payload + part * kVectorBytes, weights);
      for (int g = 0; g < F::kVectors; ++g) {
        std::byte* at = block + (g * kParts + part) * kVectorBytes;
        store_bytes(at, weights[g]);
        if constexpr (kMagnitudes) store_bytes(at + kMagnitudesAt, magnitudes(weights[g]));
      }
      const BlockScales s = load_scales<kType>(stored_scales, index, part);
      auto* at = reinterpret_cast<float*>(block + kScalesAt) + part * kLanes;
      constexpr int kStep = kParts * kLanes;
      store_f(at, s.w0);
      if constexpr (F::kHalves) store_f(at += kStep, s.w1);
      if constexpr (F::kMinima) store_f(at += kStep, s.m0);
      if constexpr (F::kHalves && F::kMinima) store_f(at += kStep, s.m1);
    }
  }
};

/// Unpacks blocks [begin, begin + blocks) of a tile of kblocks; begin starts a group.
template <DType kType>
void prepare_panel(const std::byte* tile, std::int64_t begin, int blocks, std::int64_t kblocks, std::byte* panel) {
  constexpr PackedFormat kPacked = Format<kType>::kPacked;
  constexpr int kGroupBytes = kPacked.group_bytes(kGroupBlocks);
  constexpr int kBytesPerBlock = kGroupBytes / kGroupBlocks;
  for (int done = 0; done < blocks; done += kGroupBlocks) {
    const std::byte* group = tile + (begin + done) / kGroupBlocks * kGroupBytes;
    const std::int64_t left = kblocks - begin - done;
    const int count = left < kGroupBlocks ? static_cast<int>(left) : kGroupBlocks;
    const std::byte* scales = group + count * kPacked.payload_bytes;
    for (int i = 0; i < count; ++i, panel += Prepared<kType>::kBytes) {
      prefetch<kBytesPerBlock>(group + kPrefetchAhead + i * kBytesPerBlock);
      Prepared<kType>::fill(group + i * kPacked.payload_bytes, scales, i, panel);
    }
  }
}

/// Has `sum` in its register here: compilers would compute all products first, add them as a tree, and spill them.
INFERD_ALWAYS_INLINE void settle(vi& sum) { asm("" : "+x"(sum)); }

template <Columns kColumns>
constexpr int kFirstGroup = kColumns == Columns::second ? 4 : 0;
template <Columns kColumns>
constexpr int kGroupEnd = kColumns == Columns::first ? 4 : 8;

#if INFERD_LEVEL_RANK == 1

/// sums = start_sum + the products with codes below 8 bits. They are added as 16-bit pairs. Of codes of 5 bits (all
/// columns) and 6 bits (16 columns) less half their range, such sums lie within ±32512, so the result is right although
/// the sums on the way wrap around; each product of a pair stays below 2^14.
template <DType kType, Columns kColumns, int kTokens>
INFERD_ALWAYS_INLINE void sum_products(const std::byte* block, const ActivationBlock* x,
                                       vi (&sums)[kTokens][kParts]) {
  using F = Format<kType>;
  static_assert(F::kDotBits <= 5 || (F::kDotBits == 6 && kColumns != Columns::all));
  constexpr bool kCentre = F::kZeroShift < 0 && F::kDotBits > 4;
  constexpr int kShift = kCentre ? F::kDotBits - 1 : F::kZeroShift;
  vi pairs[kTokens][kParts];
  for (int t = 0; t < kTokens; ++t) {
    vi start = zero_i();
    if constexpr (kShift >= 0) start = _mm256_slli_epi16(minus_pairs<kColumns>(x[t]), kShift);
    for (int part = 0; part < kParts; ++part) pairs[t][part] = start;
  }
#pragma GCC unroll 8
  for (int g = kFirstGroup<kColumns>; g < kGroupEnd<kColumns>; ++g) {
    vb weights[kParts];
    for (int part = 0; part < kParts; ++part) weights[part] = Prepared<kType>::weight(block, g, part);
    for (int t = 0; t < kTokens; ++t) {
      const vi four = splat_four(x[t].quants + 4 * g);
      for (int part = 0; part < kParts; ++part) {
        pairs[t][part] = _mm256_add_epi16(pairs[t][part], _mm256_maddubs_epi16(weights[part], four));
        settle(pairs[t][part]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int part = 0; part < kParts; ++part) {
      sums[t][part] = widen_pairs(pairs[t][part]);
      if constexpr (kCentre) {
        sums[t][part] = _mm256_sub_epi32(sums[t][part], shift_left<kShift>(minus_sum<kColumns>(x[t])));
      }
    }
  }
}

#endif

/// sums += the products with bytes from vector kFrom of the block on.
template <DType kType, int kFrom, int kTokens>
INFERD_ALWAYS_INLINE void add_products(const std::byte* block, int first_group, int group_end, const ActivationBlock* x,
                                       vi (&sums)[kTokens][kParts]) {
#pragma GCC unroll 8
  for (int g = first_group; g < group_end; ++g) {
    vb weights[kParts];
    for (int part = 0; part < kParts; ++part) weights[part] = Prepared<kType>::weight(block, kFrom + g, part);
#if INFERD_LEVEL_RANK == 1
    vb magnitudes[kParts];
    for (int part = 0; part < kParts; ++part) magnitudes[part] = Prepared<kType>::magnitude(block, kFrom + g, part);
#endif
    for (int t = 0; t < kTokens; ++t) {
      const vi four = splat_four(x[t].quants + 4 * g);
      for (int part = 0; part < kParts; ++part) {
#if INFERD_LEVEL_RANK == 1
        const vi products = _mm256_maddubs_epi16(magnitudes[part], _mm256_sign_epi8(four, weights[part]));
        sums[t][part] = add_i(sums[t][part], widen_pairs(products));
        settle(sums[t][part]);
#else
        sums[t][part] = dot_four(sums[t][part], weights[part], four);
#endif
      }
    }
  }
}

/// The exact sums of a block's products, as add_sums takes them.
template <DType kType, Columns kColumns, int kTokens>
INFERD_ALWAYS_INLINE void block_sums(const std::byte* block, const ActivationBlock* x, vi (&sums)[kTokens][kParts]) {
  using F = Format<kType>;
#if INFERD_LEVEL_RANK == 1
  if constexpr (F::kDotBits < 8) return sum_products<kType, kColumns>(block, x, sums);
#endif
  for (int t = 0; t < kTokens; ++t) {
    for (int part = 0; part < kParts; ++part) sums[t][part] = start_sum<kType, kColumns>(x[t]);
  }
  add_products<kType, 0>(block, kFirstGroup<kColumns>, kGroupEnd<kColumns>, x, sums);
  if constexpr (F::kWide) {
    for (int t = 0; t < kTokens; ++t) {
      for (int part = 0; part < kParts; ++part) sums[t][part] = shift_left<7>(sums[t][part]);
    }
    add_products<kType, 8>(block, 0, 8, x, sums);
  }
}

/// raw += the products of a panel with kTokens tokens whose blocks are side by side.
template <DType kType, int kTokens>
void prepared_pass(const std::byte* panel, int blocks, const ActivationBlock* x, float* __restrict__ raw) {
  using F = Format<kType>;
  for (int block = 0; block < blocks; ++block, panel += Prepared<kType>::kBytes, x += kActivationGroup) {
    vi first[kTokens][kParts];
    vi second[kTokens][kParts];
    if constexpr (F::kHalves) {
      block_sums<kType, Columns::first>(panel, x, first);
      block_sums<kType, Columns::second>(panel, x, second);
    } else {
      block_sums<kType, Columns::all>(panel, x, first);
    }
    for (int t = 0; t < kTokens; ++t) {
      for (int part = 0; part < kParts; ++part) {
        float* at = raw + t * kRawStride + part * kLanes;
        const BlockScales scales = Prepared<kType>::scales(panel, part);
        const vi other = F::kHalves ? second[t][part] : first[t][part];
        store_f(at, add_sums<kType>(load_f(at), first[t][part], other, scales, x[t]));
      }
    }
  }
}

}  // namespace
}  // namespace inferd
