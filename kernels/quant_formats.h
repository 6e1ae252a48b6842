// How every tensor type is widened to f32, one scalar element at a time: the yardstick for all packed kernels.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace inferd {

/// Values of a 4-bit code of IQ4_NL and IQ4_XS.
inline constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

/// Values of a 4-bit code of MXFP4: twice those of e2m1.
inline constexpr std::int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// 2^(e - 128), half of what the exponent of an MXFP4 block says.
inline float half_of_e8m0(std::uint32_t e) { return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23); }

/// IEEE half to float, exact, subnormals, infinities and NaNs included.
inline float f16_to_f32(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

/// bfloat16 is the upper half of a float.
inline float bf16_to_f32(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

/// e4m3 as folders store it, exact: subnormals in units of 2^-9, no infinities, NaN for all ones.
inline float f8_e4m3_to_f32(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t exponent = (code >> 3) & 15u, fraction = code & 7u;
  if (exponent == 0) {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-9f) | sign);
  }
  if (exponent == 15 && fraction == 7) return std::bit_cast<float>(sign | 0x7fc00000u);
  return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (fraction << 20));
}

/// The eight 6-bit scales and minima in the 12 bytes of a Q4_K or Q5_K block.
inline void unpack_k_scales(const std::uint8_t* packed, std::uint8_t scales[8], std::uint8_t minima[8]) {
  for (int b = 0; b < 4; ++b) {
    scales[b] = packed[b] & 63;
    minima[b] = packed[b + 4] & 63;
    scales[b + 4] = static_cast<std::uint8_t>((packed[b + 8] & 15) | ((packed[b] >> 6) << 4));
    minima[b + 4] = static_cast<std::uint8_t>((packed[b + 8] >> 4) | ((packed[b + 4] >> 6) << 4));
  }
}

/// Blocks of matrices that were quantised by groups of columns (GPTQ, AWQ and their kind), one block a group:
/// f32 scale, u8 zero, then `columns` codes of `bits` bits, the first in the lowest bits of the first byte.
/// A value is scale * (code - zero).
struct GroupFormat {
  int bits = 0;  // 0: not such a type
  int columns = 0;
};
inline constexpr int kGroupZeroAt = 4;
inline constexpr int kGroupCodesAt = 5;

constexpr GroupFormat group_format(DType dtype) {
  switch (dtype) {
    case DType::g2_32:
      return {2, 32};
    case DType::g2_128:
      return {2, 128};
    case DType::g3_32:
      return {3, 32};
    case DType::g3_128:
      return {3, 128};
    case DType::g4_32:
      return {4, 32};
    case DType::g4_64:
      return {4, 64};
    case DType::g4_128:
      return {4, 128};
    case DType::g8_32:
      return {8, 32};
    case DType::g8_128:
      return {8, 128};
    default:
      return {};
  }
}

/// What the 4-bit codes of NF4 and FP4 stand for: integers that a half holds exactly. Their blocks of 64 columns are
/// f32 scale, then 32 bytes of codes, the first in the lower bits. A value is scale * values[code].
struct WideTable {
  std::int16_t values[16];
  double one;  // what 1.0 of bitsandbytes' own table is here
};
inline constexpr int kWideCodesAt = 4;
/// `one` is where the entries round least, by 1.6e-4 of themselves at most.
inline constexpr WideTable kNf4Table = {
    {-13424, -9344, -7048, -5300, -3818, -2480, -1222, 0, 1068, 2160, 3304, 4536, 5916, 7552, 9704, 13424},
    13422.58664475};
/// Entries are exact; 1/192 is the smallest.
inline constexpr WideTable kFp4Table = {{0, 1, 128, 192, 64, 96, 32, 48, 0, -1, -128, -192, -64, -96, -32, -48}, 192.0};

constexpr bool has_wide_table(DType dtype) { return dtype == DType::nf4 || dtype == DType::fp4; }
constexpr const WideTable& wide_table(DType dtype) { return dtype == DType::fp4 ? kFp4Table : kNf4Table; }

/// Code `index` of a stream of `bits`-bit codes (1 to 8).
inline int read_code(const std::uint8_t* codes, int bits, int index) {
  const int at = bits * index;
  int both = codes[at / 8] >> (at % 8);
  if (at % 8 + bits > 8) both |= codes[at / 8 + 1] << (8 - at % 8);
  return both & ((1 << bits) - 1);
}

/// Sets code `index` of a zero-filled stream.
inline void write_code(std::uint8_t* codes, int bits, int index, int code) {
  const int at = bits * index;
  codes[at / 8] = static_cast<std::uint8_t>(codes[at / 8] | (code << (at % 8)));
  if (at % 8 + bits > 8) codes[at / 8 + 1] = static_cast<std::uint8_t>(codes[at / 8 + 1] | (code >> (8 - at % 8)));
}

/// Widens `elements` values (a multiple of the type's block) from `source`, which needs no alignment.
/// Integer types become the nearest float; booleans 0 and 1.
void dequantize_row(DType dtype, const std::byte* source, float* out, std::int64_t elements);

}  // namespace inferd
