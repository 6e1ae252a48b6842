// The binary float formats of PTX and exact rounding into them, in integers: the rules every conversion follows.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <string_view>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace inferd::ptxsim {

enum class Rounding : uint8_t { nearest_even, zero, down, up, nearest_away };

/// The rounding an opcode word names (rn rz rm rp rna, and rni rzi rmi rpi), false if it names none.
bool parse_rounding(std::string_view word, Rounding& rounding);

struct FloatFormat {
  int exponent_bits, mantissa_bits;
  bool has_infinity;  // e4m3 has none: its top code is NaN
  constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  constexpr int width() const { return 1 + exponent_bits + mantissa_bits; }
};
constexpr FloatFormat kF16{5, 10, true}, kBf16{8, 7, true}, kTf32{8, 10, true}, kF32{8, 23, true}, kF64{11, 52, true};
constexpr FloatFormat kE4m3{4, 3, false}, kE5m2{5, 2, true};

/// The code of (-1)^negative * mantissa * 2^exponent, rounded. `sticky`: the true value is a little further from zero.
/// `saturate`: the largest finite value instead of infinity (or of e4m3's NaN).
uint64_t encode_parts(bool negative, uint64_t mantissa, int exponent, bool sticky, const FloatFormat& format,
                      Rounding rounding, bool saturate = false);
/// The code of a double, rounded. NaN becomes the canonical NaN: positive, all ones (e4m3: 0x7f).
uint64_t encode_float(double value, const FloatFormat& format, Rounding rounding, bool saturate = false);
/// The value of a code; exact, since every format here fits into a double.
double decode_float(uint64_t code, const FloatFormat& format);

constexpr uint32_t kNanF32 = 0x7fffffffu;
constexpr uint16_t kNanF16 = 0x7fff, kNanBf16 = 0x7fff;

inline float f16_to_float(uint16_t h) {
#ifdef __F16C__
  return _cvtsh_ss(h);
#else
  return float(decode_float(h, kF16));
#endif
}

inline uint16_t float_to_f16(float f) {
  if (f != f) return kNanF16;
#ifdef __F16C__
  return uint16_t(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT));
#else
  return uint16_t(encode_float(f, kF16, Rounding::nearest_even));
#endif
}

inline float bf16_to_float(uint16_t b) { return std::bit_cast<float>(uint32_t{b} << 16); }

inline uint16_t float_to_bf16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  if (f != f) return kNanBf16;
  return uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/// Rounds to odd: a later rounding to at most 22 bits then gives what rounding the double at once would give.
inline float round_to_odd(double value) {
  const float nearest = float(value);
  if (double(nearest) == value || value != value || std::isinf(nearest)) return nearest;
  uint32_t u = std::bit_cast<uint32_t>(nearest);
  if (std::fabs(double(nearest)) > std::fabs(value)) --u;  // towards zero
  return std::bit_cast<float>(u | 1);
}

inline uint16_t double_to_f16(double v) { return float_to_f16(round_to_odd(v)); }
inline uint16_t double_to_bf16(double v) { return float_to_bf16(round_to_odd(v)); }

/// a * b + c of values whose product is exact in a double, rounded to odd in the double.
inline double fma_to_odd(double a, double b, double c) {
  const double product = a * b, sum = product + c;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);  // exact: Knuth's TwoSum
  if (error == 0 || !std::isfinite(sum)) return sum;
  uint64_t u = std::bit_cast<uint64_t>(sum);
  if ((error < 0) != std::signbit(sum)) --u;  // the true value is nearer to zero
  return std::bit_cast<double>(u | 1);
}

inline float flush_subnormal(float f) { return std::fabs(f) < 0x1p-126f ? std::copysign(0.0f, f) : f; }

}  // namespace inferd::ptxsim
