// Dot products of packed weight bytes with int8 activations, four columns at a time. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/simd.h"
#include "kernels/cpu/linear/linear_kernels.h"

namespace inferd {
namespace {

/// Whether 8-bit codes are fed as unsigned bytes (code + 128) or, where the instruction set would saturate, as signed.
constexpr bool kUnsignedBytes = INFERD_LEVEL_RANK != 1;

/// Four activations, repeated in every lane.
INFERD_ALWAYS_INLINE vi splat_four(const std::int8_t* four) {
  std::int32_t bits;
  std::memcpy(&bits, four, sizeof bits);
  return splat_i(bits);
}

/// Columns of a block: 0-15, 16-31, or all 32.
enum class Columns { first, second, all };

#if INFERD_LEVEL_RANK == 1

INFERD_ALWAYS_INLINE vi widen_pairs(vi pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
/// -(the sums of every first and every second two of four quants), in turn, as 16-bit integers.
template <Columns kColumns>
INFERD_ALWAYS_INLINE vi minus_pairs(const ActivationBlock& x) {
  if constexpr (kColumns == Columns::all) return splat_i(x.minus_sums[0]);
  const vi second = splat_i(x.minus_sums[1]);
  if constexpr (kColumns == Columns::second) return second;
  return _mm256_sub_epi16(splat_i(x.minus_sums[0]), second);
}
/// -(the sum of the quants).
template <Columns kColumns>
INFERD_ALWAYS_INLINE vi minus_sum(const ActivationBlock& x) {
  return widen_pairs(minus_pairs<kColumns>(x));
}

#else

template <Columns kColumns>
INFERD_ALWAYS_INLINE vi minus_sum(const ActivationBlock& x) {
  if constexpr (kColumns == Columns::first) return splat_i(x.minus_sums[0]);
  if constexpr (kColumns == Columns::second) return splat_i(x.minus_sums[1]);
  return add_i(splat_i(x.minus_sums[0]), splat_i(x.minus_sums[1]));
}

#endif

#if INFERD_LEVEL_RANK >= 2

INFERD_ALWAYS_INLINE vi dot_four(vi sum, vb weights, vi activations) {
#if INFERD_LEVEL_RANK == 3
  return _mm512_dpbusd_epi32(sum, weights, activations);
#else
  return _mm256_dpbusd_avx_epi32(sum, weights, activations);
#endif
}
/// sum + the dot product of 16 columns: weights[0 … 3] unsigned, of kBits.
template <int kBits>
INFERD_ALWAYS_INLINE vi dot_16(vi sum, const vb* weights, const std::int8_t* activations) {
  for (int g = 0; g < 4; ++g) sum = dot_four(sum, weights[g], splat_four(activations + 4 * g));
  return sum;
}

#elif INFERD_LEVEL_RANK == 1

/// The sums of pairs stay below 2^15: 4 * 2 * 31 * 127 for up to 5 bits, 2 * 2 * 63 * 127 for 6. For 8 bits the weight
/// is signed: its magnitude (up to 128) times the activation with the weight's sign, 2 * 128 * 127 at most.
template <int kBits>
INFERD_ALWAYS_INLINE vi dot_16(vi sum, const vb* weights, const std::int8_t* activations) {
  vi products[4];
  for (int g = 0; g < 4; ++g) {
    const vi four = splat_four(activations + 4 * g);
    if constexpr (kBits == 8) {
      products[g] = _mm256_maddubs_epi16(_mm256_abs_epi8(weights[g]), _mm256_sign_epi8(four, weights[g]));
    } else {
      products[g] = _mm256_maddubs_epi16(weights[g], four);
    }
  }
  if constexpr (kBits == 8) {
    for (int g = 0; g < 4; ++g) sum = add_i(sum, widen_pairs(products[g]));
    return sum;
  }
  const vi first = _mm256_add_epi16(products[0], products[1]);
  const vi second = _mm256_add_epi16(products[2], products[3]);
  if constexpr (kBits <= 5) return add_i(sum, widen_pairs(_mm256_add_epi16(first, second)));
  return add_i(sum, add_i(widen_pairs(first), widen_pairs(second)));
}

#else

template <int kBits>
INFERD_ALWAYS_INLINE vi dot_16(vi sum, const vb* weights, const std::int8_t* activations) {
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  for (int g = 0; g < 4; ++g) {
    const __m128i bytes = reinterpret_cast<__m128i>(splat_four(activations + 4 * g));
    const __m128i four = _mm_unpacklo_epi8(bytes, _mm_cmpgt_epi8(zero, bytes));  // sign-extended, twice
    const __m128i codes = reinterpret_cast<__m128i>(weights[g]);
    const __m128 low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(codes, zero), four));
    const __m128 high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(codes, zero), four));
    const __m128i even = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
    const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
    sum = add_i(sum, reinterpret_cast<vi>(_mm_add_epi32(even, odd)));
  }
#else
  for (int g = 0; g < 4; ++g) {
    for (int i = 0; i < 4; ++i) {
      const std::int32_t x = activations[4 * g + i];
      sum += vi{weights[g][i], weights[g][4 + i], weights[g][8 + i], weights[g][12 + i]} * x;
    }
  }
#endif
  return sum;
}

#endif

/// sum + the dot product of all 32 columns.
template <int kBits>
INFERD_ALWAYS_INLINE vi dot_32(vi sum, const vb* weights, const std::int8_t* activations) {
#if INFERD_LEVEL_RANK == 1
  if constexpr (kBits <= 4) {  // 8 * 2 * 15 * 127 stays below 2^15
    vi pairs = _mm256_maddubs_epi16(weights[0], splat_four(activations));
    for (int g = 1; g < 8; ++g) {
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(weights[g], splat_four(activations + 4 * g)));
    }
    return add_i(sum, widen_pairs(pairs));
  }
#endif
  return dot_16<kBits>(dot_16<kBits>(sum, weights, activations), weights + 4, activations + 16);
}

}  // namespace
}  // namespace inferd
