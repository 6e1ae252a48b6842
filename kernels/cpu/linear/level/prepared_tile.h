// One packed tile times many tokens where the registers hold the sums of few: the tile is unpacked once, one panel of
// blocks after another, and every four tokens read the panel from the first-level cache. For levels of two vectors a
// tile (avx2, avxvnni). Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/tile_kernels.h"

namespace inferd {
namespace {

/// What a panel may take of a first-level cache of 32 KiB; activations and sums pass through the rest.
constexpr int kPanelBytes = 20 << 10;

#if INFERD_LEVEL_RANK == 1
/// The first or second two of each four signed bytes as words; with `lower`, of 128 * bytes + lower.
template <int kWhich>
INFERD_ALWAYS_INLINE vb words(vb bytes, const vb* lower) {
  constexpr int kLeft = kWhich == 0 ? 8 : 0;
  const auto widened = [](vb x) {
    // Byte 0 or 2 of each four, then byte 1 or 3, in the upper halves of the words.
    const vb even = _mm256_slli_epi16(x, 8), odd = _mm256_and_si256(x, _mm256_set1_epi16(-256));
    const vb pair = kLeft > 0 ? _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa)
                              : _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
    return _mm256_srai_epi16(pair, 8);
  };
  const vb upper = widened(bytes);
  return lower != nullptr ? _mm256_add_epi16(_mm256_slli_epi16(upper, 7), widened(*lower)) : upper;
}
#endif

/// A block unpacked: vectors of weights, [kVectors][kParts], and the scales, [w0, w1, m0, m1 as far as there
/// are][kParts]. Weights are bytes as Format::unpack gives them. Where products of two bytes would not fit 16 bits,
/// weights are words: vector 2g holds columns 4g and 4g + 1, vector 2g + 1 the next two.
template <DType kType>
struct Prepared {
  using F = Format<kType>;
  static constexpr bool kWords = F::kDotBits == 8 && !kUnsignedBytes;
  static constexpr int kVectors = kWords ? 16 : F::kVectors;
  static constexpr int kScales = (F::kHalves ? 2 : 1) * (F::kMinima ? 2 : 1);
  static constexpr int kVectorBytes = 4 * kLanes;
  static constexpr int kScalesAt = kVectors * kParts * kVectorBytes;
  static constexpr int kBytes = kScalesAt + kScales * kParts * kVectorBytes;
  static constexpr int kBlocks = kPanelBytes / kBytes / kGroupBlocks * kGroupBlocks;  // whole groups
  static_assert(kBlocks > 0);

  static INFERD_ALWAYS_INLINE vb weight(const std::byte* block, int vector, int part) {
    return load_bytes(block + (vector * kParts + part) * kVectorBytes);
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
      const auto store = [&](int vector, vb x) { store_bytes(block + (vector * kParts + part) * kVectorBytes, x); };
      for (int g = 0; g < (kWords ? 8 : kVectors); ++g) {
        if constexpr (kWords) {
          const vb* lower = F::kWide ? weights + g + 8 : nullptr;
          store(2 * g, words<0>(weights[g], lower));
          store(2 * g + 1, words<1>(weights[g], lower));
        } else {
          store(g, weights[g]);
        }
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
  for (int done = 0; done < blocks; done += kGroupBlocks) {
    const std::byte* group = tile + (begin + done) / kGroupBlocks * kGroupBytes;
    const std::int64_t left = kblocks - begin - done;
    const int count = left < kGroupBlocks ? static_cast<int>(left) : kGroupBlocks;
    const std::byte* scales = group + count * kPacked.payload_bytes;
    for (int i = 0; i < count; ++i, panel += Prepared<kType>::kBytes) {
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
