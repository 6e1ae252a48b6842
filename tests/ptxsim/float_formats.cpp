// Exact rounding into a float format.
#include "tests/ptxsim/float_formats.h"

namespace inferd::ptxsim {
namespace {

// Whether a magnitude is to be raised: `kept` is its last kept bit, the rest is compared with one half.
bool round_up(Rounding rounding, bool negative, bool kept_odd, int rest_against_half, bool rest_not_zero) {
  switch (rounding) {
    case Rounding::nearest_even:
      return rest_against_half > 0 || (rest_against_half == 0 && kept_odd);
    case Rounding::nearest_away:
      return rest_against_half >= 0 && rest_not_zero;
    case Rounding::zero:
      return false;
    case Rounding::down:
      return negative && rest_not_zero;
    case Rounding::up:
      return !negative && rest_not_zero;
  }
  return false;
}

uint64_t largest_finite(const FloatFormat& f) {
  const uint64_t all = (uint64_t{1} << (f.exponent_bits + f.mantissa_bits)) - 1;
  return f.has_infinity ? all - (uint64_t{1} << f.mantissa_bits) : all - 1;
}

uint64_t overflow(bool negative, const FloatFormat& f, Rounding rounding, bool saturate) {
  const bool away = rounding == Rounding::nearest_even || rounding == Rounding::nearest_away ||
                    (rounding == Rounding::down && negative) || (rounding == Rounding::up && !negative);
  return saturate || !away ? largest_finite(f) : largest_finite(f) + 1;
}

}  // namespace

bool parse_rounding(std::string_view word, Rounding& rounding) {
  if (word == "rn" || word == "rni")
    rounding = Rounding::nearest_even;
  else if (word == "rz" || word == "rzi")
    rounding = Rounding::zero;
  else if (word == "rm" || word == "rmi")
    rounding = Rounding::down;
  else if (word == "rp" || word == "rpi")
    rounding = Rounding::up;
  else if (word == "rna")
    rounding = Rounding::nearest_away;
  else
    return false;
  return true;
}

uint64_t encode_parts(bool negative, uint64_t mantissa, int exponent, bool sticky, const FloatFormat& f,
                      Rounding rounding, bool saturate) {
  const uint64_t sign = negative ? uint64_t{1} << (f.width() - 1) : 0;
  if (mantissa == 0) return sign;
  const int shift_up = std::countl_zero(mantissa);
  mantissa <<= shift_up;
  exponent -= shift_up;
  const int top = exponent + 63;                               // the value is in [2^top, 2^(top+1))
  const int smallest = 1 - f.bias();                           // below it the numbers are subnormal
  const int unit = std::max(top, smallest) - f.mantissa_bits;  // exponent of the last kept bit
  const int drop = unit - exponent;                            // bits to drop, >= 11
  uint64_t kept = 0, rest = mantissa, half = 0;
  if (drop < 64) {
    kept = mantissa >> drop;
    rest = mantissa & ((uint64_t{1} << drop) - 1);
    half = uint64_t{1} << (drop - 1);
  } else if (drop == 64) {
    half = uint64_t{1} << 63;
  }
  int against_half = drop > 64 ? -1 : rest > half ? 1 : rest < half ? -1 : 0;
  if (against_half == 0 && sticky) against_half = 1;
  if (round_up(rounding, negative, kept & 1, against_half, rest != 0 || sticky)) ++kept;
  if (top < smallest) return sign | kept;  // a carry makes it the smallest normal number by itself
  const uint64_t code = (uint64_t(top + f.bias() - 1) << f.mantissa_bits) + kept;
  if (top + f.bias() < 1 || top + f.bias() > (1 << f.exponent_bits) || code > largest_finite(f)) {
    return sign | overflow(negative, f, rounding, saturate);
  }
  return sign | code;
}

uint64_t encode_float(double value, const FloatFormat& f, Rounding rounding, bool saturate) {
  const uint64_t u = std::bit_cast<uint64_t>(value);
  const bool negative = u >> 63;
  if (value != value) return (uint64_t{1} << (f.exponent_bits + f.mantissa_bits)) - 1;
  if (std::isinf(value)) {
    const uint64_t sign = negative ? uint64_t{1} << (f.width() - 1) : 0;
    return sign | (saturate ? largest_finite(f) : largest_finite(f) + 1);
  }
  const int exponent = int(u >> 52 & 0x7ff);
  const uint64_t fraction = u & ((uint64_t{1} << 52) - 1);
  if (exponent == 0) return encode_parts(negative, fraction, -1074, false, f, rounding, saturate);
  return encode_parts(negative, fraction | uint64_t{1} << 52, exponent - 1075, false, f, rounding, saturate);
}

double decode_float(uint64_t code, const FloatFormat& f) {
  const bool negative = code >> (f.width() - 1) & 1;
  const uint64_t fraction = code & ((uint64_t{1} << f.mantissa_bits) - 1);
  const int exponent = int(code >> f.mantissa_bits & ((uint64_t{1} << f.exponent_bits) - 1));
  const bool top = exponent == (1 << f.exponent_bits) - 1;
  double magnitude = 0;
  if (top && f.has_infinity) {
    magnitude = fraction == 0 ? HUGE_VAL : std::nan("");
  } else if (top && fraction == (uint64_t{1} << f.mantissa_bits) - 1) {
    magnitude = std::nan("");
  } else if (exponent == 0) {
    magnitude = std::ldexp(double(fraction), 1 - f.bias() - f.mantissa_bits);
  } else {
    magnitude = std::ldexp(double(fraction | uint64_t{1} << f.mantissa_bits), exponent - f.bias() - f.mantissa_bits);
  }
  return negative ? -magnitude : magnitude;
}

}  // namespace inferd::ptxsim
