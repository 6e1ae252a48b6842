// One packed tile times many tokens where the registers hold the sums of few: the tile is unpacked once, one panel of
// blocks after another, and every four tokens read the panel from the first-level cache. For levels of two vectors a
// tile (avx2, avxvnni). Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/prepared_blocks.h"

namespace inferd {
namespace {

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
INFERD_ALWAYS_INLINE void sum_products(const std::byte* block, const ActivationBlock* x, vi (&sums)[kTokens][kParts]) {
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

#if INFERD_LEVEL_RANK == 1

/// The activations of kTokens tokens as words, [blocks][kTokens][32]. All of a panel at once: what was stored a moment
/// ago is slow to read in smaller pieces.
template <int kTokens>
INFERD_ALWAYS_INLINE void widen_quants(const ActivationBlock* x, int blocks, std::int16_t* wide) {
  for (int block = 0; block < blocks; ++block, x += kActivationGroup) {
    for (int t = 0; t < kTokens; ++t) {
      for (int half = 0; half < 2; ++half, wide += 16) {
        const auto* bytes = reinterpret_cast<const __m128i*>(x[t].quants) + half;
        store_bytes(wide, _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)));
      }
    }
  }
}

/// sums = the products of weights and activations that are words.
template <DType kType, Columns kColumns, int kTokens>
INFERD_ALWAYS_INLINE void sum_words(const std::byte* block, const std::int16_t* wide, vi (&sums)[kTokens][kParts]) {
  for (int t = 0; t < kTokens; ++t) {
    for (int part = 0; part < kParts; ++part) sums[t][part] = zero_i();
  }
#pragma GCC unroll 16
  for (int v = 2 * kFirstGroup<kColumns>; v < 2 * kGroupEnd<kColumns>; ++v) {
    vb weights[kParts];
    for (int part = 0; part < kParts; ++part) weights[part] = Prepared<kType>::weight(block, v, part);
    for (int t = 0; t < kTokens; ++t) {
      std::int32_t two;
      std::memcpy(&two, wide + t * kBlockColumns + 2 * v, sizeof two);
      for (int part = 0; part < kParts; ++part) {
        sums[t][part] = add_i(sums[t][part], _mm256_madd_epi16(weights[part], splat_i(two)));
        settle(sums[t][part]);
      }
    }
  }
}

#else

/// sums += the products with the bytes from vector kFrom of the block on.
template <DType kType, int kFrom, int kTokens>
INFERD_ALWAYS_INLINE void add_products(const std::byte* block, int first_group, int group_end, const ActivationBlock* x,
                                       vi (&sums)[kTokens][kParts]) {
#pragma GCC unroll 8
  for (int g = first_group; g < group_end; ++g) {
    vb weights[kParts];
    for (int part = 0; part < kParts; ++part) weights[part] = Prepared<kType>::weight(block, kFrom + g, part);
    for (int t = 0; t < kTokens; ++t) {
      const vi four = splat_four(x[t].quants + 4 * g);
      for (int part = 0; part < kParts; ++part) sums[t][part] = dot_four(sums[t][part], weights[part], four);
    }
  }
}

#endif

/// The exact sums of a block's products, as add_sums takes them.
template <DType kType, Columns kColumns, int kTokens>
INFERD_ALWAYS_INLINE void block_sums(const std::byte* block, const ActivationBlock* x, vi (&sums)[kTokens][kParts]) {
#if INFERD_LEVEL_RANK == 1
  sum_products<kType, kColumns>(block, x, sums);
#else
  using F = Format<kType>;
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
#endif
}

/// The packed bytes that are unpacked next: asked for bit by bit while others are multiplied.
struct Ahead {
  const std::byte* at = nullptr;
  const std::byte* end = nullptr;
};

/// raw += the products of a panel with kTokens tokens whose blocks are side by side.
template <DType kType, int kTokens>
void prepared_pass(const std::byte* panel, int blocks, const ActivationBlock* x, Ahead* ahead,
                   float* __restrict__ raw) {
  using F = Format<kType>;
  constexpr int kLines = (F::kPacked.group_bytes(kGroupBlocks) / kGroupBlocks + 127) / 128;  // in two passes
  const std::byte* wanted = ahead->at;
#if INFERD_LEVEL_RANK == 1
  constexpr bool kWords = Prepared<kType>::kWords;
  static_assert(!kWords || F::kZeroShift < 0);
  alignas(32) std::int16_t wide[kWords ? Prepared<kType>::kBlocks * kTokens * kBlockColumns : 1];
  if constexpr (kWords) widen_quants<kTokens>(x, blocks, wide);
#endif
  for (int block = 0; block < blocks; ++block, panel += Prepared<kType>::kBytes, x += kActivationGroup) {
    if (wanted < ahead->end) {
      for (int line = 0; line < kLines; ++line) __builtin_prefetch(wanted + 64 * line, 0, 3);
      wanted += 64 * kLines;
    }
    vi first[kTokens][kParts];
    vi second[kTokens][kParts];
#if INFERD_LEVEL_RANK == 1
    if constexpr (kWords) {
      const std::int16_t* words = wide + block * kTokens * kBlockColumns;
      sum_words<kType, F::kHalves ? Columns::first : Columns::all>(panel, words, first);
      if constexpr (F::kHalves) sum_words<kType, Columns::second>(panel, words, second);
    } else
#endif
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
  ahead->at = wanted;
}

}  // namespace
}  // namespace inferd
