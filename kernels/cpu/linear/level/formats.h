// Unpacking of packed blocks and their scales into vectors. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/dot.h"
#include "kernels/cpu/linear/packed_format.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

/// Entries of a table of signed bytes, plus 128.
struct UnsignedBytes {
  std::uint8_t values[16] = {};
};
constexpr UnsignedBytes unsigned_bytes(const std::int8_t (&table)[16]) {
  UnsignedBytes bytes;
  for (int i = 0; i < 16; ++i) bytes.values[i] = static_cast<std::uint8_t>(table[i] + 128);
  return bytes;
}
constexpr UnsignedBytes kIq4Unsigned = unsigned_bytes(kIq4Values);
constexpr UnsignedBytes kMxfp4Unsigned = unsigned_bytes(kMxfp4Values);

/// The entries of a WideTable as 128 * upper + lower, lower in 0 … 127.
struct TableBytes {
  alignas(16) std::int8_t upper_signed[16] = {};
  alignas(16) std::uint8_t upper_unsigned[16] = {};  // plus 128
  alignas(16) std::int8_t lower[16] = {};
};
constexpr TableBytes table_bytes(const WideTable& table) {
  TableBytes bytes;
  for (int i = 0; i < 16; ++i) {
    const int upper = table.values[i] >> 7;
    bytes.upper_signed[i] = static_cast<std::int8_t>(upper);
    bytes.upper_unsigned[i] = static_cast<std::uint8_t>(upper + 128);
    bytes.lower[i] = static_cast<std::int8_t>(table.values[i] & 127);
  }
  return bytes;
}
constexpr TableBytes kNf4Bytes = table_bytes(kNf4Table);
constexpr TableBytes kFp4Bytes = table_bytes(kFp4Table);

/// How kernels see one type. Vectors of kLanes rows; `part` is which kLanes of a tile's 16.
template <DType kType>
struct Format {
  static constexpr PackedFormat kPacked = packed_format(kType);
  static constexpr bool kBytes = kPacked.bits == 8 || kPacked.table != CodeTable::none;
  static constexpr bool kWide = kPacked.table == CodeTable::nf4 || kPacked.table == CodeTable::fp4;
  static constexpr int kVectors = kWide ? 16 : 8;  // that unpack gives
  static constexpr int kDotBits = kBytes ? 8 : kPacked.bits;
  /// Codes stand for code - (1 << kZeroShift) in the dot products; -1: for themselves.
  static constexpr int kZeroShift = kBytes && !kUnsignedBytes ? -1 : kPacked.zero_shift;
  static constexpr bool kHalves =
      kPacked.scheme == ScaleScheme::k16s || kPacked.scheme == ScaleScheme::k16dm || kPacked.scheme == ScaleScheme::s16;
  static constexpr bool kMinima = kPacked.scheme == ScaleScheme::dm || kPacked.scheme == ScaleScheme::k ||
                                  kPacked.scheme == ScaleScheme::k16dm || kPacked.scheme == ScaleScheme::dz;

  /// The 32 columns of a block as bytes: vector g holds columns 4g … 4g+3, of wide tables the upper bytes; vector g + 8
  /// the lower ones. payload: advanced to `part`.
  static INFERD_ALWAYS_INLINE void unpack(const std::byte* payload, vb* weights) {
    if constexpr (kPacked.bits == 8) {
      for (int g = 0; g < 8; ++g) {
        weights[g] = load_bytes(payload + 64 * g);
        if constexpr (kUnsignedBytes) weights[g] = xor_bytes(weights[g], 0x80);
      }
    } else if constexpr (kPacked.bits >= 4) {
      for (int j = 0; j < 4; ++j) {
        const vb pair = load_bytes(payload + 64 * j);
        weights[j] = and_bytes(pair, 15);
        weights[j + 4] = and_bytes(shift_pairs<4>(pair), 15);
      }
      if constexpr (kPacked.bits == 5) add_bits<4>(load_bytes(payload + 256), weights);
      if constexpr (kPacked.bits == 6) add_pairs(load_bytes(payload + 256), load_bytes(payload + 320), weights);
      if constexpr (kWide) {
        constexpr const TableBytes& kTable = kPacked.table == CodeTable::nf4 ? kNf4Bytes : kFp4Bytes;
        for (int g = 0; g < 8; ++g) {
          weights[g + 8] = lookup(kTable.lower, weights[g]);
          weights[g] =
              kUnsignedBytes ? lookup(kTable.upper_unsigned, weights[g]) : lookup(kTable.upper_signed, weights[g]);
        }
      } else if constexpr (kPacked.table != CodeTable::none) {
        constexpr bool kIq4 = kPacked.table == CodeTable::iq4;
        constexpr const std::int8_t* kSigned = kIq4 ? kIq4Values : kMxfp4Values;
        constexpr const std::uint8_t* kUnsigned = kIq4 ? kIq4Unsigned.values : kMxfp4Unsigned.values;
        for (int g = 0; g < 8; ++g) {
          weights[g] = kUnsignedBytes ? lookup(kUnsigned, weights[g]) : lookup(kSigned, weights[g]);
        }
      }
    } else {
      for (int h = 0; h < 2; ++h) {
        const vb four = load_bytes(payload + 64 * h);
        weights[4 * h] = and_bytes(four, 3);
        weights[4 * h + 1] = and_bytes(shift_pairs<2>(four), 3);
        weights[4 * h + 2] = and_bytes(shift_pairs<4>(four), 3);
        weights[4 * h + 3] = and_bytes(shift_pairs<6>(four), 3);
      }
      if constexpr (kPacked.bits == 3) add_bits<2>(load_bytes(payload + 128), weights);
    }
  }

 private:
  /// Bit g of `bits` becomes bit kAt of weights[g].
  template <int kAt>
  static INFERD_ALWAYS_INLINE void add_bits(vb bits, vb* weights) {
    weights[0] = or_bytes(weights[0], and_bytes(shift_pairs<0 - kAt>(bits), 1 << kAt));
    weights[1] = or_bytes(weights[1], and_bytes(shift_pairs<1 - kAt>(bits), 1 << kAt));
    weights[2] = or_bytes(weights[2], and_bytes(shift_pairs<2 - kAt>(bits), 1 << kAt));
    weights[3] = or_bytes(weights[3], and_bytes(shift_pairs<3 - kAt>(bits), 1 << kAt));
    weights[4] = or_bytes(weights[4], and_bytes(shift_pairs<4 - kAt>(bits), 1 << kAt));
    weights[5] = or_bytes(weights[5], and_bytes(shift_pairs<5 - kAt>(bits), 1 << kAt));
    weights[6] = or_bytes(weights[6], and_bytes(shift_pairs<6 - kAt>(bits), 1 << kAt));
    weights[7] = or_bytes(weights[7], and_bytes(shift_pairs<7 - kAt>(bits), 1 << kAt));
  }
  /// The upper two of six bits.
  static INFERD_ALWAYS_INLINE void add_pairs(vb first, vb second, vb* weights) {
    for (int h = 0; h < 2; ++h) {
      const vb pairs = h == 0 ? first : second;
      weights[4 * h] = or_bytes(weights[4 * h], and_bytes(shift_pairs<-4>(pairs), 0x30));
      weights[4 * h + 1] = or_bytes(weights[4 * h + 1], and_bytes(shift_pairs<-2>(pairs), 0x30));
      weights[4 * h + 2] = or_bytes(weights[4 * h + 2], and_bytes(pairs, 0x30));
      weights[4 * h + 3] = or_bytes(weights[4 * h + 3], and_bytes(shift_pairs<2>(pairs), 0x30));
    }
  }
};

/// A block's factors as f32: w for columns 0-15 and 16-31 (equal where the type has one), m for its minimum, such that
/// a weight is w * code + m, or w * code - m for k16dm.
struct BlockScales {
  vf w0, w1, m0, m1;
};

/// Of block `index` of a group; scales: the group's header or, without one, its first entry.
template <DType kType>
INFERD_ALWAYS_INLINE BlockScales load_scales(const std::byte* scales, int index, int part) {
  constexpr PackedFormat kPacked = packed_format(kType);
  constexpr bool kHalfEntries = kPacked.header_bytes == 0;
  const std::byte* super = scales + part * kLanes * 2;
  const std::byte* entry =
      scales + kPacked.header_bytes + index * kPacked.block_scale_bytes + part * kLanes * (kHalfEntries ? 2 : 1);
  BlockScales s;
  s.w1 = s.m0 = s.m1 = zero_f();
  if constexpr (kPacked.scheme == ScaleScheme::d) {
    s.w0 = load_f16(entry);
  } else if constexpr (kPacked.scheme == ScaleScheme::dm) {
    s.w0 = load_f16(entry);
    s.m0 = load_f16(entry + 32);
  } else if constexpr (kPacked.scheme == ScaleScheme::k) {
    const vi lower = load_u8(entry);
    const vi upper = shift_right_by(load_ints(scales + kUpperBitsAt + part * kLanes * 4), 4 * index);
    const vi scale = or_i(and_i(lower, 15), and_i(shift_left<4>(upper), 0x30));
    const vi minimum = or_i(shift_right<4>(lower), and_i(shift_left<2>(upper), 0x30));
    s.w0 = load_f16(super) * to_float(scale);
    s.m0 = zero_f() - load_f16(super + 32) * to_float(minimum);
  } else if constexpr (kPacked.scheme == ScaleScheme::k16s) {
    const vf d = load_f16(super);
    s.w0 = d * to_float(load_i8(entry));
    s.w1 = d * to_float(load_i8(entry + 16));
  } else if constexpr (kPacked.scheme == ScaleScheme::k16dm) {
    const vi first = load_u8(entry);
    const vi second = load_u8(entry + 16);
    const vf d = load_f16(super);
    const vf dmin = load_f16(super + 32);
    s.w0 = d * to_float(and_i(first, 15));
    s.w1 = d * to_float(and_i(second, 15));
    s.m0 = dmin * to_float(shift_right<4>(first));
    s.m1 = dmin * to_float(shift_right<4>(second));
  } else if constexpr (kPacked.scheme == ScaleScheme::dz) {
    const std::byte* shared = scales + index / kPacked.scale_blocks * kPacked.scale_blocks * kPacked.block_scale_bytes;
    s.w0 = load_f(reinterpret_cast<const float*>(shared) + part * kLanes);
    s.m0 = s.w0 * (splat(kPacked.bits == 8 ? 128.0f : 0.0f) - to_float(load_u8(shared + 64 + part * kLanes)));
  } else if constexpr (kPacked.scheme == ScaleScheme::s16) {
    const auto* at = reinterpret_cast<const float*>(scales + index * kPacked.block_scale_bytes) + part * kLanes;
    s.w0 = load_f(at);
    s.w1 = load_f(at + kTileRows);
  } else if constexpr (kPacked.scheme == ScaleScheme::e8) {
    // 2^(e - 128) may be subnormal: as a product of two that are not.
    const vi e = load_u8(scales + index * kPacked.block_scale_bytes + part * kLanes);
    const vi half = shift_right<1>(e), other = shift_right<1>(add_i(e, splat_i(1)));
    s.w0 = float_of_bits(shift_left<23>(add_i(half, splat_i(63)))) *
           float_of_bits(shift_left<23>(add_i(other, splat_i(63))));
  } else if constexpr (kPacked.scheme == ScaleScheme::super_d) {
    s.w0 = load_f16(super);
  } else if constexpr (kPacked.scheme == ScaleScheme::s) {
    const std::byte* shared = scales + index / kPacked.scale_blocks * kPacked.scale_blocks * kPacked.block_scale_bytes;
    s.w0 = load_f(reinterpret_cast<const float*>(shared) + part * kLanes);
  } else {
    s.w0 = load_f16(super) * to_float(load_i8(entry));
  }
  return s;
}

}  // namespace
}  // namespace inferd
