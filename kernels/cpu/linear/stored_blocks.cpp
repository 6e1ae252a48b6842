// Codes and scales of stored blocks. Layouts: quant_formats.cpp.
#include "kernels/cpu/linear/stored_blocks.h"

#include <cstring>

#include "base/check.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

void split_nibbles(Bytes nibbles, Codes codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = nibbles[j] & 15;
    codes[j + 16] = nibbles[j] >> 4;
  }
}

void add_fifth_bits(Bytes mask, Codes codes) {
  std::uint32_t bits;
  std::memcpy(&bits, mask, sizeof bits);
  for (int j = 0; j < kBlockColumns; ++j) {
    codes[j] = static_cast<std::uint8_t>(codes[j] | (((bits >> j) & 1u) << 4));
  }
}

/// The two low bits of columns 32 * sub … of a Q2_K or Q3_K block.
void read_two_bits(Bytes qs, int sub, Codes codes) {
  const Bytes plane = qs + 32 * (sub / 4);
  const int shift = 2 * (sub % 4);
  for (int j = 0; j < kBlockColumns; ++j) codes[j] = (plane[j] >> shift) & 3;
}

/// The same of a group's block; 8-bit codes as signed bytes.
void read_group_codes(int bits, Bytes block, int sub, Codes codes) {
  INFERD_CHECK(bits > 0);
  for (int j = 0; j < kBlockColumns; ++j) {
    const int code = read_code(block + kGroupCodesAt, bits, kBlockColumns * sub + j);
    codes[j] = static_cast<std::uint8_t>(bits == 8 ? code ^ 0x80 : code);
  }
}

/// A sixteen-column scale of Q3_K, its offset of 32 taken off.
std::int8_t q3_scale(Bytes packed, int index) {
  const int low = (packed[index % 8] >> (4 * (index / 8))) & 15;
  const int high = (packed[8 + index % 4] >> (2 * (index / 4))) & 3;
  return static_cast<std::int8_t>((low | (high << 4)) - 32);
}

}  // namespace

void read_codes(DType dtype, Bytes block, int sub, Codes codes) {
  switch (dtype) {
    case DType::q4_0:
    case DType::iq4_nl:
      return split_nibbles(block + 2, codes);
    case DType::q4_1:
      return split_nibbles(block + 4, codes);
    case DType::q5_0:
      split_nibbles(block + 6, codes);
      return add_fifth_bits(block + 2, codes);
    case DType::q5_1:
      split_nibbles(block + 8, codes);
      return add_fifth_bits(block + 4, codes);
    case DType::q8_0:
      std::memcpy(codes, block + 2, kBlockColumns);
      return;
    case DType::q2_k:
      return read_two_bits(block + 16, sub, codes);
    case DType::q3_k:
      read_two_bits(block + 32, sub, codes);
      for (int j = 0; j < kBlockColumns; ++j) {
        codes[j] = static_cast<std::uint8_t>(codes[j] | (((block[j] >> sub) & 1) << 2));
      }
      return;
    case DType::q4_k:
    case DType::q5_k: {
      const bool five = dtype == DType::q5_k;
      const Bytes nibbles = block + (five ? 48 : 16) + 32 * (sub / 2);
      for (int j = 0; j < kBlockColumns; ++j) {
        int code = (nibbles[j] >> (4 * (sub % 2))) & 15;
        if (five) code |= ((block[16 + j] >> sub) & 1) << 4;
        codes[j] = static_cast<std::uint8_t>(code);
      }
      return;
    }
    case DType::q6_k: {
      const int half = sub / 4;
      const int quarter = sub % 4;
      const Bytes low = block + 64 * half + 32 * (quarter % 2);
      const Bytes high = block + 128 + 32 * half;
      for (int j = 0; j < kBlockColumns; ++j) {
        codes[j] =
            static_cast<std::uint8_t>(((low[j] >> (4 * (quarter / 2))) & 15) | (((high[j] >> (2 * quarter)) & 3) << 4));
      }
      return;
    }
    case DType::iq4_xs:
      return split_nibbles(block + 8 + 16 * sub, codes);
    case DType::tq2_0:
      return read_two_bits(block, sub, codes);
    case DType::mxfp4:
      return split_nibbles(block + 1, codes);
    case DType::nf4:
    case DType::fp4:
      for (int j = 0; j < kBlockColumns; ++j) {
        codes[j] = static_cast<std::uint8_t>(read_code(block + kWideCodesAt, 4, kBlockColumns * sub + j));
      }
      return;
    default:
      return read_group_codes(group_format(dtype).bits, block, sub, codes);
  }
}

void write_scales(DType dtype, Bytes block, int sub, int lane, std::uint8_t* header, std::uint8_t* entry) {
  const auto copy_half = [](std::uint8_t* to, int at_lane, Bytes from) { std::memcpy(to + 2 * at_lane, from, 2); };
  switch (dtype) {
    case DType::q4_0:
    case DType::q5_0:
    case DType::q8_0:
    case DType::iq4_nl:
      return copy_half(entry, lane, block);
    case DType::q4_1:
    case DType::q5_1:
      copy_half(entry, lane, block);
      return copy_half(entry + 32, lane, block + 2);
    case DType::q2_k:
      copy_half(header, lane, block + 80);
      copy_half(header + 32, lane, block + 82);
      entry[lane] = block[2 * sub];
      entry[16 + lane] = block[2 * sub + 1];
      return;
    case DType::q3_k:
      copy_half(header, lane, block + 108);
      for (int h = 0; h < 2; ++h) entry[16 * h + lane] = static_cast<std::uint8_t>(q3_scale(block + 96, 2 * sub + h));
      return;
    case DType::q4_k:
    case DType::q5_k: {
      std::uint8_t scales[8];
      std::uint8_t minima[8];
      unpack_k_scales(block + 4, scales, minima);
      copy_half(header, lane, block);
      copy_half(header + 32, lane, block + 2);
      entry[lane] = static_cast<std::uint8_t>((scales[sub] & 15) | ((minima[sub] & 15) << 4));
      const int upper = (scales[sub] >> 4) | ((minima[sub] >> 4) << 2);
      std::uint8_t& both = header[kUpperBitsAt + 4 * lane + sub / 2];
      both = static_cast<std::uint8_t>(both | (upper << (4 * (sub % 2))));
      return;
    }
    case DType::q6_k:
      copy_half(header, lane, block + 208);
      entry[lane] = block[192 + 2 * sub];
      entry[16 + lane] = block[192 + 2 * sub + 1];
      return;
    case DType::iq4_xs: {
      std::uint16_t high;
      std::memcpy(&high, block + 2, sizeof high);
      const int scale = ((block[4 + sub / 2] >> (4 * (sub % 2))) & 15) | (((high >> (2 * sub)) & 3) << 4);
      copy_half(header, lane, block);
      entry[lane] = static_cast<std::uint8_t>(scale - 32);
      return;
    }
    case DType::tq2_0:
      return copy_half(header, lane, block + 64);
    case DType::mxfp4:
      entry[lane] = block[0];
      return;
    case DType::nf4:
    case DType::fp4:
      std::memcpy(entry + 4 * lane, block, 4);
      return;
    default:
      INFERD_CHECK(group_format(dtype).bits > 0);
      std::memcpy(entry + 4 * lane, block, 4);
      entry[64 + lane] = block[kGroupZeroAt];
      return;
  }
}

SixBits read_six_bits(const std::uint8_t* header, const std::uint8_t* entry, int sub, int lane) {
  const int upper = header[kUpperBitsAt + 4 * lane + sub / 2] >> (4 * (sub % 2));
  return {(entry[lane] & 15) | ((upper & 3) << 4), (entry[lane] >> 4) | ((upper & 12) << 2)};
}

}  // namespace inferd
