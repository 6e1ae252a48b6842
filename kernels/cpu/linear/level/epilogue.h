// Quantising activations, and what happens to a unit of output columns. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/tile_kernels.h"
#include "kernels/cpu/linear/level/vector_math.h"

namespace inferd {
namespace {

constexpr int kBlockVectors = kBlockColumns / kLanes;

#if INFERD_LEVEL_RANK > 0

INFERD_ALWAYS_INLINE std::int32_t largest_lane(vector_ints x) {
#if INFERD_LEVEL_RANK == 3
  const __m512i wide = reinterpret_cast<__m512i>(x);
  const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64(wide, 1));
#else
  const __m256i half = reinterpret_cast<__m256i>(x);
#endif
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(four);
}

/// Stores 32 integers of -127 to 127 as bytes and what minus_sum reads. Returns the sum of all.
INFERD_ALWAYS_INLINE std::int32_t store_quants(const vector_ints* quants, std::int8_t* out, std::int32_t* minus_sums) {
#if INFERD_LEVEL_RANK == 3
  const __m128i low = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(quants[0]));
  const __m128i high = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(quants[1]));
  const __m256i bytes = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
#else
  const __m256i first = _mm256_packs_epi32(reinterpret_cast<__m256i>(quants[0]), reinterpret_cast<__m256i>(quants[1]));
  const __m256i second = _mm256_packs_epi32(reinterpret_cast<__m256i>(quants[2]), reinterpret_cast<__m256i>(quants[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works on 128-bit halves
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
#endif
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
#if INFERD_LEVEL_RANK == 1
  __m256i sums = _mm256_sub_epi16(_mm256_setzero_si256(), pairs);
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, _MM_SHUFFLE(1, 0, 3, 2)));
  sums = _mm256_add_epi16(sums, _mm256_shuffle_epi32(sums, _MM_SHUFFLE(2, 3, 0, 1)));
  const __m128i half = _mm256_extracti128_si256(sums, 1);
  const __m128i all = _mm_add_epi16(_mm256_castsi256_si128(sums), half);
  minus_sums[0] = _mm_cvtsi128_si32(all);
  minus_sums[1] = _mm_cvtsi128_si32(half);
  return -_mm_cvtsi128_si32(_mm_madd_epi16(all, _mm_set1_epi16(1)));
#else
  __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, _MM_SHUFFLE(1, 0, 3, 2)));
  fours = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, _MM_SHUFFLE(2, 3, 0, 1)));
  const std::int32_t sums[2] = {_mm_cvtsi128_si32(_mm256_castsi256_si128(fours)),
                                _mm_cvtsi128_si32(_mm256_extracti128_si256(fours, 1))};
  minus_sums[0] = -sums[0];
  minus_sums[1] = -sums[1];
  return sums[0] + sums[1];
#endif
}

#else

INFERD_ALWAYS_INLINE std::int32_t largest_lane(vector_ints x) {
  std::int32_t top = 0;
  for (int lane = 0; lane < kLanes; ++lane) top = x[lane] > top ? x[lane] : top;
  return top;
}

INFERD_ALWAYS_INLINE std::int32_t store_quants(const vector_ints* quants, std::int8_t* out, std::int32_t* minus_sums) {
  minus_sums[0] = minus_sums[1] = 0;
  for (int i = 0; i < kBlockColumns; ++i) {
    const std::int32_t quant = quants[i / kLanes][i % kLanes];
    out[i] = static_cast<std::int8_t>(quant);
    minus_sums[i / 16] -= quant;
  }
  return -(minus_sums[0] + minus_sums[1]);
}

#endif

/// 32 floats as signed bytes of one scale: the largest magnitude becomes 127, halves round to even.
INFERD_ALWAYS_INLINE void quantize_block(const float* x, ActivationBlock* block) {
  vf values[kBlockVectors];
  vector_ints largest = {};
  for (int v = 0; v < kBlockVectors; ++v) {
    values[v] = load_f(x + v * kLanes);
    // As integers, magnitudes order like floats, with infinity and then NaN above all.
    const vector_ints bits = reinterpret_cast<vector_ints>(values[v]) & 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  const std::int32_t top = largest_lane(largest);
  float magnitude;
  std::memcpy(&magnitude, &top, sizeof magnitude);
  const bool finite = top < 0x7f800000;
  const bool usable = finite && magnitude > 1e-30f;
  const float inverse = usable ? 127.0f / magnitude : 0.0f;
  vector_ints quants[kBlockVectors];
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: the integer ends up in the low bits
  for (int v = 0; v < kBlockVectors; ++v) {
    const vf shifted = (usable ? values[v] * splat(inverse) : zero_f()) + magic;
    quants[v] = reinterpret_cast<vector_ints>(shifted) - 0x4b400000;
  }
  const std::int32_t sum = store_quants(quants, block->quants, block->minus_sums);
  float scale = usable ? magnitude / 127.0f : 0.0f;
  if (!finite) scale = __builtin_nanf("");
  block->scale = scale;
  block->sum = scale * static_cast<float>(sum);
}

INFERD_ALWAYS_INLINE ActivationBlock* activation_block(const ActivationView& view, std::int64_t row,
                                                       std::int64_t block) {
  return view.blocks + ((row / kActivationGroup) * view.kblocks + block) * kActivationGroup + row % kActivationGroup;
}

/// Columns [first, first + count) of a row, count ≤ 32; y holds 32 floats, zero beyond count.
INFERD_ALWAYS_INLINE void store_activation_columns(const ActivationView& view, std::int64_t row, std::int64_t first,
                                                   int count, const float* y) {
  if (view.f32 != nullptr) {
    std::memcpy(view.f32 + row * view.f32_stride + first, y, static_cast<std::size_t>(count) * sizeof(float));
  }
  if (view.blocks != nullptr) quantize_block(y, activation_block(view, row, first / kBlockColumns));
}

void store_row(const ActivationView& view, std::int64_t row, const float* x) {
  if (view.f32 != nullptr) {
    std::memcpy(view.f32 + row * view.f32_stride, x, static_cast<std::size_t>(view.columns) * sizeof(float));
  }
  if (view.blocks == nullptr) return;
  const std::int64_t whole = view.columns / kBlockColumns;
  for (std::int64_t b = 0; b < whole; ++b) quantize_block(x + b * kBlockColumns, activation_block(view, row, b));
  if (whole == view.kblocks) return;
  float tail[kBlockColumns] = {};
  const std::int64_t left = view.columns - whole * kBlockColumns;
  std::memcpy(tail, x + whole * kBlockColumns, static_cast<std::size_t>(left) * sizeof(float));
  quantize_block(tail, activation_block(view, row, whole));
}

/// `count` floats of `from`, or nothing, padded with zeros to a whole unit.
INFERD_ALWAYS_INLINE const float* padded(const float* from, int count, float* pad) {
  if (count == kUnitColumns) return from;
  std::memset(pad, 0, kUnitColumns * sizeof(float));
  std::memcpy(pad, from, static_cast<std::size_t>(count) * sizeof(float));
  return pad;
}

template <Epilogue kEpilogue>
INFERD_ALWAYS_INLINE vf apply(vf x, vf up) {
  if constexpr (kEpilogue == Epilogue::gelu_erf) return gelu_erf(x);
  if constexpr (kEpilogue == Epilogue::gelu_tanh) return gelu_tanh(x);
  if constexpr (kEpilogue == Epilogue::silu_gated) return silu(x) * up;
  if constexpr (kEpilogue == Epilogue::gelu_tanh_gated) return gelu_tanh(x) * up;
  if constexpr (kEpilogue == Epilogue::gelu_erf_gated) return gelu_erf(x) * up;
  if constexpr (kEpilogue == Epilogue::tanh) return tanh_vector(x);
  return x;
}

/// From the products of a unit (raw, and for gated layers the up rows' in raw_up) to out and out_activation.
template <Epilogue kEpilogue>
void finish(const LinearJob& job, std::int64_t unit, std::int64_t token_begin, int tokens, const float* raw,
            const float* raw_up) {
  constexpr bool kGated = is_gated(kEpilogue);
  const std::int64_t first = unit * kUnitColumns;
  const std::int64_t left = job.out_columns - first;
  const int count = left < kUnitColumns ? static_cast<int>(left) : kUnitColumns;
  alignas(64) float bias_pad[kUnitColumns];
  alignas(64) float up_bias_pad[kUnitColumns];
  const float* bias = nullptr;
  const float* up_bias = nullptr;
  if (job.bias != nullptr) {
    bias = padded(job.bias + first, count, bias_pad);
    if (kGated) up_bias = padded(job.bias + job.out_columns + first, count, up_bias_pad);
  }
  for (int t = 0; t < tokens; ++t, raw += kRawStride, raw_up += kRawStride) {
    const std::int64_t token = token_begin + t;
    alignas(64) float addend_pad[kUnitColumns];
    alignas(64) float up_addend_pad[kUnitColumns];
    const float* addend = nullptr;
    const float* up_addend = nullptr;
    if (job.addend != nullptr) {
      const float* row = job.addend + token * job.addend_stride;
      addend = padded(row + first, count, addend_pad);
      if (kGated) up_addend = padded(row + job.out_columns + first, count, up_addend_pad);
    }
    alignas(64) float residual_pad[kUnitColumns];
    alignas(64) float y[kUnitColumns];
    const float* residual = nullptr;
    if (job.residual != nullptr) {
      residual = padded(job.residual + token * job.residual_stride + first, count, residual_pad);
    }
    for (int c = 0; c < kUnitColumns; c += kLanes) {
      vf x = load_f(raw + c);
      vf up = zero_f();
      if (addend != nullptr) x = x + load_f(addend + c);
      if (bias != nullptr) x = x + load_f(bias + c);
      if constexpr (kGated) {
        up = load_f(raw_up + c);
        if (up_addend != nullptr) up = up + load_f(up_addend + c);
        if (up_bias != nullptr) up = up + load_f(up_bias + c);
      }
      x = apply<kEpilogue>(x, up);
      if (residual != nullptr) x = x + load_f(residual + c);
      store_f(y + c, x);
    }
    if (job.out != nullptr) {
      std::memcpy(job.out + token * job.out_stride + first, y, static_cast<std::size_t>(count) * sizeof(float));
    }
    for (int c = count; c < kUnitColumns; ++c) y[c] = 0.0f;
    store_activation_columns(job.out_activation, token, first, count, y);
  }
}

void finish_unit(const LinearJob& job, std::int64_t unit, std::int64_t token_begin, int tokens, const float* raw,
                 const float* raw_up) {
  switch (job.epilogue) {
    case Epilogue::none:
      return finish<Epilogue::none>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::gelu_erf:
      return finish<Epilogue::gelu_erf>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::gelu_tanh:
      return finish<Epilogue::gelu_tanh>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::silu_gated:
      return finish<Epilogue::silu_gated>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::gelu_tanh_gated:
      return finish<Epilogue::gelu_tanh_gated>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::gelu_erf_gated:
      return finish<Epilogue::gelu_erf_gated>(job, unit, token_begin, tokens, raw, raw_up);
    case Epilogue::tanh:
      return finish<Epilogue::tanh>(job, unit, token_begin, tokens, raw, raw_up);
  }
}

}  // namespace
}  // namespace inferd
