// Blocks of a packed tile unpacked into a panel that many tokens are multiplied with. Included by level sources only.
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
/// are][kParts]. Weights are bytes as Format::unpack gives them; for AMX, which multiplies signed bytes, less what
/// codes are too large by. Where products of two bytes would not fit 16 bits, weights are words: vector 2g holds
/// columns 4g and 4g + 1, vector 2g + 1 the next two.
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
        } else if (INFERD_LEVEL_RANK == 3 && F::kZeroShift >= 0 && g < 8) {
          store(g, subtract_bytes(weights[g], 1 << F::kZeroShift));
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

}  // namespace
}  // namespace inferd
