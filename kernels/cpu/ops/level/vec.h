// Vec: one SIMD register of floats per instruction level, so that row kernels are written once. Level sources only.
#pragma once

#include <cstdint>
#include <cstring>

#if INFERD_LEVEL_RANK >= 3 && defined(__GNUC__) && !defined(__clang__)
// GCC 12 mistakes the intrinsics' own "undefined" registers for uninitialised variables (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#if INFERD_LEVEL_RANK >= 1
#include <immintrin.h>
#endif

namespace inferd {
namespace {

// Scalar half and bfloat conversions: the portable level's only ones, and every level's for tails.

inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline std::uint32_t float_to_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  float value = bits_to_float(magnitude) * 0x1p112f;  // moves the exponent's bias; also normalises subnormals
  if ((half & 0x7c00u) == 0x7c00u) value = bits_to_float(magnitude | 0x7f800000u);
  return bits_to_float(float_to_bits(value) | (static_cast<std::uint32_t>(half & 0x8000u) << 16));
}
/// Nearest even; magnitudes beyond 65504 saturate (an infinite key would poison every later token); NaN stays NaN.
inline std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = float_to_bits(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  std::uint32_t x = bits & 0x7fffffffu;
  if (x > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (x > 0x477fe000u) x = 0x477fe000u;
  if (x < 0x38800000u) {  // subnormal half: adding 0.5 rounds at 2^-24
    return static_cast<std::uint16_t>(sign | (float_to_bits(bits_to_float(x) + 0.5f) - 0x3f000000u));
  }
  x += 0x0fffu + ((x >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((x - 0x38000000u) >> 13));
}
inline float bfloat_to_float(std::uint16_t bfloat) { return bits_to_float(static_cast<std::uint32_t>(bfloat) << 16); }
inline std::uint16_t float_to_bfloat(float value) {
  const std::uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// Storage types of keys and values; the kernels are templates over them.
struct Half {
  std::uint16_t bits;
};
struct Bfloat {
  std::uint16_t bits;
};

#if INFERD_LEVEL_RANK >= 3

using Vec = __m512;
constexpr int kVec = 16;
inline Vec v_set(float x) { return _mm512_set1_ps(x); }
inline Vec v_load(const float* p) { return _mm512_loadu_ps(p); }
inline void v_store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
inline Vec v_load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec v_load(const Bfloat* p) {
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}
inline void v_store(Half* p, Vec x) {
  const Vec limit = v_set(65504.0f);  // min(limit, x) returns x, its second operand, if x is NaN
  x = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), _mm512_min_ps(limit, x));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Vec v_add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec v_sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec v_mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec v_div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec v_fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec v_max(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b if either is NaN
inline Vec v_min(Vec a, Vec b) { return _mm512_min_ps(a, b); }  // b if either is NaN
inline Vec v_round(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec v_pow2(Vec n) {  // n: whole numbers in [-126, 127]
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
/// Lanes [low, high) of x, `fill` elsewhere.
inline Vec v_keep_range(Vec x, int low, int high, Vec fill) {
  const unsigned upper = high >= kVec ? 0xffffu : (1u << (high > 0 ? high : 0)) - 1u;
  const unsigned lower = low >= kVec ? 0xffffu : (1u << (low > 0 ? low : 0)) - 1u;
  return _mm512_mask_blend_ps(static_cast<__mmask16>(upper & ~lower), fill, x);
}
/// x where test < limit, `fill` elsewhere.
inline Vec v_keep_if_less(Vec x, Vec test, Vec limit, Vec fill) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(test, limit, _CMP_LT_OQ), fill, x);
}
inline void transpose_store(Vec* r, float* out, std::int64_t stride) {
  Vec t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  Vec u[16];  // u[4g + c], 128-bit lane L: column 4L + c of rows 4g … 4g + 3
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const auto as_pd = [](Vec x) { return _mm512_castps_pd(x); };
    u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(as_pd(t[4 * g]), as_pd(t[4 * g + 2])));
    u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(as_pd(t[4 * g]), as_pd(t[4 * g + 2])));
    u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(as_pd(t[4 * g + 1]), as_pd(t[4 * g + 3])));
    u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(as_pd(t[4 * g + 1]), as_pd(t[4 * g + 3])));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const Vec even_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88),
              odd_low = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
    const Vec even_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const Vec odd_high = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
    v_store(out + c * stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
    v_store(out + (4 + c) * stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
    v_store(out + (8 + c) * stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
    v_store(out + (12 + c) * stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
  }
}

#elif INFERD_LEVEL_RANK >= 1

using Vec = __m256;
constexpr int kVec = 8;
inline Vec v_set(float x) { return _mm256_set1_ps(x); }
inline Vec v_load(const float* p) { return _mm256_loadu_ps(p); }
inline void v_store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
inline Vec v_load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vec v_load(const Bfloat* p) {
  const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}
inline void v_store(Half* p, Vec x) {
  const Vec limit = v_set(65504.0f);  // min(limit, x) returns x, its second operand, if x is NaN
  x = _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), limit), _mm256_min_ps(limit, x));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline Vec v_add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec v_sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec v_mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec v_div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec v_fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec v_max(Vec a, Vec b) { return _mm256_max_ps(a, b); }  // b if either is NaN
inline Vec v_min(Vec a, Vec b) { return _mm256_min_ps(a, b); }  // b if either is NaN
inline Vec v_round(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec v_pow2(Vec n) {  // n: whole numbers in [-126, 127]
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
/// Lanes [low, high) of x, `fill` elsewhere.
inline Vec v_keep_range(Vec x, int low, int high, Vec fill) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i keep = _mm256_and_si256(_mm256_cmpgt_epi32(lane, _mm256_set1_epi32(low - 1)),
                                        _mm256_cmpgt_epi32(_mm256_set1_epi32(high), lane));
  return _mm256_blendv_ps(fill, x, _mm256_castsi256_ps(keep));
}
/// x where test < limit, `fill` elsewhere.
inline Vec v_keep_if_less(Vec x, Vec test, Vec limit, Vec fill) {
  return _mm256_blendv_ps(fill, x, _mm256_cmp_ps(test, limit, _CMP_LT_OQ));
}
inline void transpose_store(Vec* r, float* out, std::int64_t stride) {
  Vec t[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  Vec u[8];  // u[4g + c], 128-bit lane L: column 4L + c of rows 4g … 4g + 3
#pragma GCC unroll 2
  for (int g = 0; g < 2; ++g) {
    const auto as_pd = [](Vec x) { return _mm256_castps_pd(x); };
    u[4 * g] = _mm256_castpd_ps(_mm256_unpacklo_pd(as_pd(t[4 * g]), as_pd(t[4 * g + 2])));
    u[4 * g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(as_pd(t[4 * g]), as_pd(t[4 * g + 2])));
    u[4 * g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(as_pd(t[4 * g + 1]), as_pd(t[4 * g + 3])));
    u[4 * g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(as_pd(t[4 * g + 1]), as_pd(t[4 * g + 3])));
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    v_store(out + c * stride, _mm256_permute2f128_ps(u[c], u[4 + c], 0x20));
    v_store(out + (4 + c) * stride, _mm256_permute2f128_ps(u[c], u[4 + c], 0x31));
  }
}

#else  // portable: the compiler's own vectors, 128 bits everywhere

typedef float Vec __attribute__((vector_size(16)));
typedef std::int32_t VecInt __attribute__((vector_size(16)));
constexpr int kVec = 4;
inline Vec v_set(float x) { return Vec{x, x, x, x}; }
inline Vec v_load(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void v_store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }
inline Vec v_load(const Half* p) {
  return Vec{half_to_float(p[0].bits), half_to_float(p[1].bits), half_to_float(p[2].bits), half_to_float(p[3].bits)};
}
inline Vec v_load(const Bfloat* p) {
  return Vec{bfloat_to_float(p[0].bits), bfloat_to_float(p[1].bits), bfloat_to_float(p[2].bits),
             bfloat_to_float(p[3].bits)};
}
inline void v_store(Half* p, Vec x) {
  for (int i = 0; i < kVec; ++i) p[i].bits = float_to_half(x[i]);
}
inline Vec v_add(Vec a, Vec b) { return a + b; }
inline Vec v_sub(Vec a, Vec b) { return a - b; }
inline Vec v_mul(Vec a, Vec b) { return a * b; }
inline Vec v_div(Vec a, Vec b) { return a / b; }
inline Vec v_fma(Vec a, Vec b, Vec c) { return a * b + c; }
inline Vec v_select(VecInt keep, Vec x, Vec fill) {
  return reinterpret_cast<Vec>((reinterpret_cast<VecInt>(x) & keep) | (reinterpret_cast<VecInt>(fill) & ~keep));
}
inline Vec v_max(Vec a, Vec b) { return v_select(a > b, a, b); }  // b if either is NaN
inline Vec v_min(Vec a, Vec b) { return v_select(a < b, a, b); }  // b if either is NaN
/// Nearest even for |x| < 2^22: the sum has no room for a fraction.
inline Vec v_round(Vec x) {
  volatile float magic = 12582912.0f;  // volatile: or the compiler might cancel the two
  const Vec shift = v_set(magic);
  return (x + shift) - shift;
}
inline Vec v_pow2(Vec n) {  // n: whole numbers in [-126, 127]
  const VecInt exponent = __builtin_convertvector(n, VecInt) + 127;
  return reinterpret_cast<Vec>(exponent << 23);
}
/// Lanes [low, high) of x, `fill` elsewhere.
inline Vec v_keep_range(Vec x, int low, int high, Vec fill) {
  const VecInt lane = {0, 1, 2, 3};
  return v_select((lane >= low) & (lane < high), x, fill);
}
/// x where test < limit, `fill` elsewhere.
inline Vec v_keep_if_less(Vec x, Vec test, Vec limit, Vec fill) { return v_select(test < limit, x, fill); }
inline void transpose_store(Vec* r, float* out, std::int64_t stride) {
  for (int i = 0; i < kVec; ++i) v_store(out + i * stride, Vec{r[0][i], r[1][i], r[2][i], r[3][i]});
}

#endif

inline void v_store(Bfloat* p, Vec x) {
  float lanes[kVec];
  v_store(lanes, x);
  for (int i = 0; i < kVec; ++i) p[i].bits = float_to_bfloat(lanes[i]);
}

/// The first n < kVec elements at p, zeros after them; reads nothing beyond.
template <typename T>
inline Vec v_load_first(const T* p, int n) {
  T lanes[kVec];
  std::memset(lanes, 0, sizeof lanes);
  std::memcpy(lanes, p, static_cast<std::size_t>(n) * sizeof(T));
  return v_load(lanes);
}
template <typename T>
inline void v_store_first(T* p, Vec x, int n) {
  T lanes[kVec];
  v_store(lanes, x);
  std::memcpy(p, lanes, static_cast<std::size_t>(n) * sizeof(T));
}

/// Sum and maximum over the lanes, in one fixed order: halves onto each other.
#if INFERD_LEVEL_RANK >= 1
inline __m128 fold_to_four(Vec x, __m128 (*combine)(__m128, __m128)) {
#if INFERD_LEVEL_RANK >= 3
  const __m256 low = _mm512_castps512_ps256(x), high = _mm512_extractf32x8_ps(x, 1);
  const __m128 a = combine(_mm256_castps256_ps128(low), _mm256_castps256_ps128(high));
  const __m128 b = combine(_mm256_extractf128_ps(low, 1), _mm256_extractf128_ps(high, 1));
  return combine(a, b);
#else
  return combine(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
#endif
}
inline float fold(Vec x, __m128 (*combine)(__m128, __m128)) {
  __m128 y = fold_to_four(x, combine);
  y = combine(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(combine(y, _mm_movehdup_ps(y)));
}
inline __m128 add_lanes(__m128 a, __m128 b) { return _mm_add_ps(a, b); }
inline __m128 larger_lanes(__m128 a, __m128 b) { return _mm_max_ps(a, b); }
inline float v_first(Vec x) {
#if INFERD_LEVEL_RANK >= 3
  return _mm512_cvtss_f32(x);
#else
  return _mm256_cvtss_f32(x);
#endif
}
inline float v_sum(Vec x) { return fold(x, add_lanes); }
inline float v_lane_max(Vec x) { return fold(x, larger_lanes); }
#else
inline float v_first(Vec x) { return x[0]; }
inline float v_sum(Vec x) { return (x[0] + x[2]) + (x[1] + x[3]); }
inline float v_lane_max(Vec x) {
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
#endif

/// e^x for x ≤ 88, relative error below 2e-7; 0 below -87.3; NaN stays NaN; exactly 1 at 0.
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, then Taylor's polynomial of e^r to the seventh power.
inline Vec v_exp(Vec x) {
  const Vec clamped = v_max(v_set(-87.3f), v_min(v_set(88.0f), x));
  const Vec n = v_round(v_mul(clamped, v_set(1.44269504088896341f)));
  Vec r = v_fma(n, v_set(-0.693359375f), clamped);  // ln 2 in two parts: the first product is exact
  r = v_fma(n, v_set(2.12194440054690583e-4f), r);
  Vec y = v_set(1.0f / 5040.0f);
  y = v_fma(y, r, v_set(1.0f / 720.0f));
  y = v_fma(y, r, v_set(1.0f / 120.0f));
  y = v_fma(y, r, v_set(1.0f / 24.0f));
  y = v_fma(y, r, v_set(1.0f / 6.0f));
  y = v_fma(y, r, v_set(0.5f));
  y = v_fma(y, r, v_set(1.0f));
  y = v_fma(y, r, v_set(1.0f));
  y = v_mul(y, v_pow2(n));
  return v_keep_if_less(v_set(0.0f), x, v_set(-87.3f), y);
}

}  // namespace
}  // namespace inferd
