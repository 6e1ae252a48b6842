// Vector primitives of one instruction level, under one set of names. Included by level sources only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if INFERD_LEVEL_RANK > 0 || defined(__SSE2__)
#include <immintrin.h>
#endif

namespace inferd {
namespace {

#define INFERD_ALWAYS_INLINE inline __attribute__((always_inline))

// vf: kLanes floats. vi: kLanes 32-bit integers. vb: 4 * kLanes bytes, four to a lane.
#if INFERD_LEVEL_RANK == 3

constexpr int kLanes = 16;
using vf = __m512;
using vi = __m512i;
using vb = __m512i;

INFERD_ALWAYS_INLINE vb load_bytes(const void* at) { return _mm512_loadu_si512(at); }
INFERD_ALWAYS_INLINE void store_bytes(void* at, vb x) { _mm512_storeu_si512(at, x); }
INFERD_ALWAYS_INLINE vb and_bytes(vb x, int mask) {
  return _mm512_and_si512(x, _mm512_set1_epi8(static_cast<char>(mask)));
}
INFERD_ALWAYS_INLINE vb or_bytes(vb a, vb b) { return _mm512_or_si512(a, b); }
INFERD_ALWAYS_INLINE vb xor_bytes(vb a, int mask) {
  return _mm512_xor_si512(a, _mm512_set1_epi8(static_cast<char>(mask)));
}
INFERD_ALWAYS_INLINE vb subtract_bytes(vb a, int b) {
  return _mm512_sub_epi8(a, _mm512_set1_epi8(static_cast<char>(b)));
}
/// Shifts 16-bit pairs right (n > 0) or left (n < 0); mask afterwards.
template <int n>
INFERD_ALWAYS_INLINE vb shift_pairs(vb x) {
  if constexpr (n > 0) return _mm512_srli_epi16(x, n);
  if constexpr (n < 0) return _mm512_slli_epi16(x, -n);
  return x;
}
INFERD_ALWAYS_INLINE vb lookup(const void* table16, vb index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(table16))), index);
}
INFERD_ALWAYS_INLINE vf zero_f() { return _mm512_setzero_ps(); }
INFERD_ALWAYS_INLINE vf load_f(const float* at) { return _mm512_loadu_ps(at); }
INFERD_ALWAYS_INLINE void store_f(float* at, vf x) { _mm512_storeu_ps(at, x); }
INFERD_ALWAYS_INLINE vf splat(float x) { return _mm512_set1_ps(x); }
INFERD_ALWAYS_INLINE vf multiply_add(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INFERD_ALWAYS_INLINE vf to_float(vi x) { return _mm512_cvtepi32_ps(x); }
INFERD_ALWAYS_INLINE vf load_f16(const void* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
}
INFERD_ALWAYS_INLINE vf load_bf16(const void* at) {
  const __m256i raw = _mm256_loadu_si256(static_cast<const __m256i*>(at));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
}
INFERD_ALWAYS_INLINE vi load_u8(const void* at) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
INFERD_ALWAYS_INLINE vi load_i8(const void* at) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
INFERD_ALWAYS_INLINE vi and_i(vi x, int mask) { return _mm512_and_si512(x, _mm512_set1_epi32(mask)); }
template <int n>
INFERD_ALWAYS_INLINE vi shift_right(vi x) {
  return _mm512_srli_epi32(x, n);
}
template <int n>
INFERD_ALWAYS_INLINE vi shift_left(vi x) {
  return _mm512_slli_epi32(x, n);
}
INFERD_ALWAYS_INLINE vi shift_right_by(vi x, int n) { return _mm512_srl_epi32(x, _mm_cvtsi32_si128(n)); }
INFERD_ALWAYS_INLINE vi load_ints(const void* at) { return _mm512_loadu_si512(at); }
INFERD_ALWAYS_INLINE vi or_i(vi a, vi b) { return _mm512_or_si512(a, b); }
INFERD_ALWAYS_INLINE vi zero_i() { return _mm512_setzero_si512(); }
INFERD_ALWAYS_INLINE vi splat_i(std::int32_t x) { return _mm512_set1_epi32(x); }
INFERD_ALWAYS_INLINE vi add_i(vi a, vi b) { return _mm512_add_epi32(a, b); }
INFERD_ALWAYS_INLINE vf float_of_bits(vi x) { return _mm512_castsi512_ps(x); }

#elif INFERD_LEVEL_RANK > 0

constexpr int kLanes = 8;
using vf = __m256;
using vi = __m256i;
using vb = __m256i;

INFERD_ALWAYS_INLINE vb load_bytes(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
INFERD_ALWAYS_INLINE void store_bytes(void* at, vb x) { _mm256_storeu_si256(static_cast<__m256i*>(at), x); }
INFERD_ALWAYS_INLINE vb and_bytes(vb x, int mask) {
  return _mm256_and_si256(x, _mm256_set1_epi8(static_cast<char>(mask)));
}
INFERD_ALWAYS_INLINE vb or_bytes(vb a, vb b) { return _mm256_or_si256(a, b); }
INFERD_ALWAYS_INLINE vb xor_bytes(vb a, int mask) {
  return _mm256_xor_si256(a, _mm256_set1_epi8(static_cast<char>(mask)));
}
INFERD_ALWAYS_INLINE vb subtract_bytes(vb a, int b) {
  return _mm256_sub_epi8(a, _mm256_set1_epi8(static_cast<char>(b)));
}
/// Shifts 16-bit pairs right (n > 0) or left (n < 0); mask afterwards.
template <int n>
INFERD_ALWAYS_INLINE vb shift_pairs(vb x) {
  if constexpr (n > 0) return _mm256_srli_epi16(x, n);
  if constexpr (n < 0) return _mm256_slli_epi16(x, -n);
  return x;
}
INFERD_ALWAYS_INLINE vb lookup(const void* table16, vb index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table16))), index);
}
INFERD_ALWAYS_INLINE vf zero_f() { return _mm256_setzero_ps(); }
INFERD_ALWAYS_INLINE vf load_f(const float* at) { return _mm256_loadu_ps(at); }
INFERD_ALWAYS_INLINE void store_f(float* at, vf x) { _mm256_storeu_ps(at, x); }
INFERD_ALWAYS_INLINE vf splat(float x) { return _mm256_set1_ps(x); }
INFERD_ALWAYS_INLINE vf multiply_add(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INFERD_ALWAYS_INLINE vf to_float(vi x) { return _mm256_cvtepi32_ps(x); }
INFERD_ALWAYS_INLINE vf load_f16(const void* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at)));
}
INFERD_ALWAYS_INLINE vf load_bf16(const void* at) {
  const __m128i raw = _mm_loadu_si128(static_cast<const __m128i*>(at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
}
INFERD_ALWAYS_INLINE vi load_u8(const void* at) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(at)));
}
INFERD_ALWAYS_INLINE vi load_i8(const void* at) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(at)));
}
INFERD_ALWAYS_INLINE vi and_i(vi x, int mask) { return _mm256_and_si256(x, _mm256_set1_epi32(mask)); }
template <int n>
INFERD_ALWAYS_INLINE vi shift_right(vi x) {
  return _mm256_srli_epi32(x, n);
}
template <int n>
INFERD_ALWAYS_INLINE vi shift_left(vi x) {
  return _mm256_slli_epi32(x, n);
}
INFERD_ALWAYS_INLINE vi shift_right_by(vi x, int n) { return _mm256_srl_epi32(x, _mm_cvtsi32_si128(n)); }
INFERD_ALWAYS_INLINE vi load_ints(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
INFERD_ALWAYS_INLINE vi or_i(vi a, vi b) { return _mm256_or_si256(a, b); }
INFERD_ALWAYS_INLINE vi zero_i() { return _mm256_setzero_si256(); }
INFERD_ALWAYS_INLINE vi splat_i(std::int32_t x) { return _mm256_set1_epi32(x); }
INFERD_ALWAYS_INLINE vi add_i(vi a, vi b) { return _mm256_add_epi32(a, b); }
INFERD_ALWAYS_INLINE vf float_of_bits(vi x) { return _mm256_castsi256_ps(x); }

#else

constexpr int kLanes = 4;
typedef float vf __attribute__((vector_size(16)));
typedef std::int32_t vi __attribute__((vector_size(16)));
typedef std::uint8_t vb __attribute__((vector_size(16)));
typedef std::uint16_t vh __attribute__((vector_size(16)));

template <typename V>
INFERD_ALWAYS_INLINE V load_any(const void* at) {
  V value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
INFERD_ALWAYS_INLINE vb load_bytes(const void* at) { return load_any<vb>(at); }
INFERD_ALWAYS_INLINE vb and_bytes(vb x, int mask) { return x & static_cast<std::uint8_t>(mask); }
INFERD_ALWAYS_INLINE vb or_bytes(vb a, vb b) { return a | b; }
INFERD_ALWAYS_INLINE vb xor_bytes(vb a, int mask) { return a ^ static_cast<std::uint8_t>(mask); }
/// Shifts 16-bit pairs right (n > 0) or left (n < 0); mask afterwards.
template <int n>
INFERD_ALWAYS_INLINE vb shift_pairs(vb x) {
  if constexpr (n > 0) return reinterpret_cast<vb>(reinterpret_cast<vh>(x) >> n);
  if constexpr (n < 0) return reinterpret_cast<vb>(reinterpret_cast<vh>(x) << -n);
  return x;
}
INFERD_ALWAYS_INLINE vb lookup(const void* table16, vb index) {
  const auto* table = static_cast<const std::uint8_t*>(table16);
  vb out;
  for (int i = 0; i < 16; ++i) out[i] = table[index[i] & 15];
  return out;
}
INFERD_ALWAYS_INLINE vf zero_f() { return vf{}; }
INFERD_ALWAYS_INLINE vf load_f(const float* at) { return load_any<vf>(at); }
INFERD_ALWAYS_INLINE void store_f(float* at, vf x) { std::memcpy(at, &x, sizeof x); }
INFERD_ALWAYS_INLINE vf splat(float x) { return vf{x, x, x, x}; }
INFERD_ALWAYS_INLINE vf multiply_add(vf a, vf b, vf c) { return a * b + c; }
INFERD_ALWAYS_INLINE vf to_float(vi x) { return __builtin_convertvector(x, vf); }
/// Shifting the half's exponent and fraction into place and multiplying by 2^112 is exact, subnormals included.
INFERD_ALWAYS_INLINE vf load_f16(const void* at) {
  std::uint16_t raw[4];
  std::memcpy(raw, at, sizeof raw);
  const vi bits = {raw[0], raw[1], raw[2], raw[3]};
  const vf magnitude = reinterpret_cast<vf>((bits & 0x7fff) << 13) * 0x1p112f;
  const vi infinite = (bits & 0x7c00) == 0x7c00;  // infinity or NaN: the exponent must be all ones
  return reinterpret_cast<vf>(reinterpret_cast<vi>(magnitude) | (infinite & 0x7f800000) | ((bits & 0x8000) << 16));
}
INFERD_ALWAYS_INLINE vf load_bf16(const void* at) {
  std::uint16_t raw[4];
  std::memcpy(raw, at, sizeof raw);
  return reinterpret_cast<vf>(vi{raw[0], raw[1], raw[2], raw[3]} << 16);
}
INFERD_ALWAYS_INLINE vi load_u8(const void* at) {
  const auto* p = static_cast<const std::uint8_t*>(at);
  return vi{p[0], p[1], p[2], p[3]};
}
INFERD_ALWAYS_INLINE vi load_i8(const void* at) {
  const auto* p = static_cast<const std::int8_t*>(at);
  return vi{p[0], p[1], p[2], p[3]};
}
INFERD_ALWAYS_INLINE vi and_i(vi x, int mask) { return x & mask; }
template <int n>
INFERD_ALWAYS_INLINE vi shift_right(vi x) {
  return x >> n;
}
template <int n>
INFERD_ALWAYS_INLINE vi shift_left(vi x) {
  return x << n;
}
INFERD_ALWAYS_INLINE vi shift_right_by(vi x, int n) { return x >> n; }
INFERD_ALWAYS_INLINE vi load_ints(const void* at) { return load_any<vi>(at); }
INFERD_ALWAYS_INLINE vi or_i(vi a, vi b) { return a | b; }
INFERD_ALWAYS_INLINE vi zero_i() { return vi{}; }
INFERD_ALWAYS_INLINE vi splat_i(std::int32_t x) { return vi{x, x, x, x}; }
INFERD_ALWAYS_INLINE vi add_i(vi a, vi b) { return a + b; }
INFERD_ALWAYS_INLINE vf float_of_bits(vi x) { return reinterpret_cast<vf>(x); }

#endif

}  // namespace
}  // namespace inferd
