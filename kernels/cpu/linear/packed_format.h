// How each weight format is laid out in packed tiles: the one table that packing, decoding and kernels share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace inferd {

// A tile holds 16 rows ("lanes") of a matrix over all its columns.
//
// Plain types: [columns][16] elements.
//
// Quantised types: groups of 8 blocks of 32 columns (the last group may have fewer), each
//   [blocks][payload_bytes], a header if the type has super-blocks, [blocks][block_scale_bytes],
// and padding to 64 bytes, so that payload vectors are aligned and memory is read in one stream.
// In a payload "group" g = 0 … 7 stands for columns 4g … 4g+3 of the block, and byte 4 * lane + i of a 64-byte vector
// for column 4g + i of that lane:
//   4 bits   4 vectors; vector j has group j in its low and group j + 4 in its high nibbles
//   5 bits   the same, then 1 vector whose bit g is the fifth bit of group g
//   6 bits   the same as 4 bits, then 2 vectors: bits 2(g & 3) and 2(g & 3) + 1 of vector g / 4 are the upper two
//   2 bits   2 vectors: bits 2(g & 3) and 2(g & 3) + 1 of vector g / 4
//   3 bits   the same, then 1 vector whose bit g is the third bit of group g
//   8 bits   8 vectors of signed bytes
// Nothing is lost: every code and every scale of the file is there, so rows can be decoded bit for bit.
//
// Types without a row in the table below (lattices, base-3 digits): the 16 stored rows as they are, one after another.
// A tile is spread into one of kSpread32 or kSpread16 (spread.h) when it is multiplied.
inline constexpr int kTileRows = 16;
inline constexpr int kBlockColumns = 32;
inline constexpr int kGroupBlocks = 8;  // also the blocks of a super-block

/// What a block's scale entry holds, for 16 lanes each. f16 values are kept as in the file.
enum class ScaleScheme : std::uint8_t {
  none,
  d,        // f16 d
  dm,       // f16 d, f16 m
  k,        // header f16 d, f16 dmin, u32 whose bits 4i … 4i+3 are the upper two of entry i's scale and minimum;
            // entry u8 (the lower four bits of the scale | of the minimum << 4)
  k16s,     // header f16 d; entry i8 scale of columns 0-15, i8 scale of columns 16-31
  k16dm,    // header f16 d, f16 dmin; entry u8 (scale | minimum << 4) of columns 0-15, the same of columns 16-31
  k32s,     // header f16 d; entry i8 scale
  dz,       // f32 d, u8 zero
  s,        // f32 d
  s16,      // f32 d of columns 0-15, f32 d of columns 16-31
  e8,       // u8 exponent: 2^(e - 128)
  super_d,  // header f16 d; no entries
};

/// Where the u32s of ScaleScheme::k are in a header.
inline constexpr int kUpperBitsAt = 64;

/// What codes that are indices find: kIq4Values, kMxfp4Values, or a WideTable.
enum class CodeTable : std::uint8_t { none, iq4, mxfp4, nf4, fp4 };

struct PackedFormat {
  int payload_bytes;  // per block of 32 columns and 16 lanes
  int bits;           // of a stored code
  int zero_shift;     // codes stand for code - (1 << zero_shift); -1: for themselves
  ScaleScheme scheme;
  int header_bytes;       // per group; 0: no super-blocks
  int block_scale_bytes;  // per block
  CodeTable table;
  int scale_blocks = 1;  // blocks that share a scale entry; block_scale_bytes is a block's share of it

  /// Bytes of a group of `blocks` blocks.
  constexpr int group_bytes(int blocks) const {
    return (blocks * (payload_bytes + block_scale_bytes) + header_bytes + 63) / 64 * 64;
  }
};

/// What spread tiles are of: no types of tensors. One scale for 32 or for 16 columns.
inline constexpr auto kSpread32 = static_cast<DType>(kDTypeCount);
inline constexpr auto kSpread16 = static_cast<DType>(kDTypeCount + 1);

/// Layout of a quantised type; payload_bytes 0 for every other type.
constexpr PackedFormat packed_format(DType dtype) {
  if (dtype == kSpread32) return {512, 8, 7, ScaleScheme::s, 0, 64, CodeTable::none};
  if (dtype == kSpread16) return {512, 8, 7, ScaleScheme::s16, 0, 128, CodeTable::none};
  switch (dtype) {
    case DType::q4_0:
      return {256, 4, 3, ScaleScheme::d, 0, 32, CodeTable::none};
    case DType::q4_1:
      return {256, 4, -1, ScaleScheme::dm, 0, 64, CodeTable::none};
    case DType::q5_0:
      return {320, 5, 4, ScaleScheme::d, 0, 32, CodeTable::none};
    case DType::q5_1:
      return {320, 5, -1, ScaleScheme::dm, 0, 64, CodeTable::none};
    case DType::q8_0:
      return {512, 8, 7, ScaleScheme::d, 0, 32, CodeTable::none};
    case DType::q2_k:
      return {128, 2, -1, ScaleScheme::k16dm, 64, 32, CodeTable::none};
    case DType::q3_k:
      return {192, 3, 2, ScaleScheme::k16s, 32, 32, CodeTable::none};
    case DType::q4_k:
      return {256, 4, -1, ScaleScheme::k, 128, 16, CodeTable::none};
    case DType::q5_k:
      return {320, 5, -1, ScaleScheme::k, 128, 16, CodeTable::none};
    case DType::q6_k:
      return {384, 6, 5, ScaleScheme::k16s, 32, 32, CodeTable::none};
    case DType::iq4_nl:
      return {256, 4, 7, ScaleScheme::d, 0, 32, CodeTable::iq4};
    case DType::iq4_xs:
      return {256, 4, 7, ScaleScheme::k32s, 32, 16, CodeTable::iq4};
    case DType::tq2_0:
      return {128, 2, 0, ScaleScheme::super_d, 32, 0, CodeTable::none};
    case DType::mxfp4:
      return {256, 4, 7, ScaleScheme::e8, 0, 16, CodeTable::mxfp4};
    case DType::g2_32:
      return {128, 2, -1, ScaleScheme::dz, 0, 80, CodeTable::none, 1};
    case DType::g2_128:
      return {128, 2, -1, ScaleScheme::dz, 0, 20, CodeTable::none, 4};
    case DType::g3_32:
      return {192, 3, -1, ScaleScheme::dz, 0, 80, CodeTable::none, 1};
    case DType::g3_128:
      return {192, 3, -1, ScaleScheme::dz, 0, 20, CodeTable::none, 4};
    case DType::g4_32:
      return {256, 4, -1, ScaleScheme::dz, 0, 80, CodeTable::none, 1};
    case DType::g4_64:
      return {256, 4, -1, ScaleScheme::dz, 0, 40, CodeTable::none, 2};
    case DType::g4_128:
      return {256, 4, -1, ScaleScheme::dz, 0, 20, CodeTable::none, 4};
    case DType::g8_32:  // as signed bytes: code - 128
      return {512, 8, 7, ScaleScheme::dz, 0, 80, CodeTable::none, 1};
    case DType::g8_128:
      return {512, 8, 7, ScaleScheme::dz, 0, 20, CodeTable::none, 4};
    case DType::nf4:
      return {256, 4, 7, ScaleScheme::s, 0, 32, CodeTable::nf4, 2};
    case DType::fp4:
      return {256, 4, 7, ScaleScheme::s, 0, 32, CodeTable::fp4, 2};
    default:
      return {0, 0, -1, ScaleScheme::none, 0, 0, CodeTable::none};
  }
}

/// Whether tiles of the type hold rows as stored.
constexpr bool is_kept_as_stored(DType dtype) {
  switch (dtype) {
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
    case DType::iq3_xxs:
    case DType::iq3_s:
    case DType::iq1_s:
    case DType::iq1_m:
    case DType::tq1_0:
      return true;
    default:
      return false;
  }
}

}  // namespace inferd
