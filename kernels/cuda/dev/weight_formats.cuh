// WeightTile: one lane's registers of a 16 x 64 tile of packed weights, as mma operands and as exact f32 values.
#pragma once

#include "kernels/cuda/dev/ptx.cuh"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

inline __device__ std::uint32_t bits_of(__half2 value) { return *reinterpret_cast<std::uint32_t*>(&value); }
inline __device__ __half2 halves_of(std::uint32_t bits) { return *reinterpret_cast<__half2*>(&bits); }
/// f16 in the lower or upper half of a word, widened.
inline __device__ float half_float(std::uint32_t bits, bool upper) {
  return upper ? __high2float(halves_of(bits)) : __low2float(halves_of(bits));
}
/// The integer -value, 0 < value <= 2048, as f16 in both halves.
inline __device__ constexpr std::uint32_t negative_halves(int value) {
  int exponent = 0;
  while (value >> (exponent + 1) != 0) ++exponent;
  const int fraction = (value << (10 - exponent)) & 1023;
  return static_cast<std::uint32_t>(0x8000 | (exponent + 15) << 10 | fraction) * 0x10001u;
}
/// 2^-p as f16 in both halves.
inline __device__ constexpr std::uint32_t power_halves(int p) {
  return static_cast<std::uint32_t>((15 - p) << 10) * 0x10001u;
}
/// Moves bit `from` of a word to bit `to`.
inline __device__ std::uint32_t move_bits(std::uint32_t word, int from, int to) {
  return from >= to ? word >> (from - to) : word << (to - from);
}

/// 32-bit words that a lane loads of a tile's scales, and of a super entry.
constexpr int scale_words(const WeightLayout& layout) {
  if (layout.scales == WeightScales::k16p) return 2;
  if (layout.scales == WeightScales::dz) return 4;
  return layout.scale_bytes / 32;
}
constexpr int super_words(const WeightLayout& layout) {
  return layout.scales == WeightScales::k16p ? 1 : layout.super_bytes / 32;
}

/// Loads, then hands out. Every lane of the warp holds its own part; `g` is lane / 4.
/// A quantised weight of row g (upper: g + 8) in group q of kGroup columns is scale(q, upper) * code - minimum(q,
/// upper) where fragment() gives the codes, exact integers in f16, or the table's halves. Nothing is rounded before
/// that expression.
template <WeightFormat F>
struct WeightTile {
  static constexpr WeightLayout kLayout = weight_layout(F);
  static constexpr int kBits = kLayout.bits;
  static constexpr int kGroup = kLayout.group;
  static constexpr bool kHasMin = kLayout.has_min;
  static constexpr WeightScales kScales = kLayout.scales;
  static constexpr bool kQuantized = kGroup != 0;
  static constexpr int kTileBytes = kLayout.tile_bytes();
  static constexpr int kGroups = kQuantized ? kColumnTile / kGroup : 1;
  static constexpr int kSteps = 4;
  static constexpr int kMainBits = kLayout.main_bits();
  static constexpr int kTwoAt = kLayout.main_bytes();
  static constexpr int kOneAt = kTwoAt + kLayout.two_bytes();
  static constexpr int kScalesAt = kLayout.scales_at();
  static constexpr int kMainWords = kMainBits;  // 32-bit words of a lane
  static constexpr int kTwoWords = kLayout.two_bytes() / 128;
  static constexpr int kOneWords = kLayout.one_bytes() / 128;
  static constexpr int kScaleWords = scale_words(kLayout);
  static constexpr int kSuperWords = super_words(kLayout);
  static constexpr int kTableWords = kLayout.table == WeightTable::none ? 0 : kLayout.table == WeightTable::bytes ? 4 : 8;

  /// Reads the tile; row_tile and k_tile within the matrix.
  __device__ void load(const WeightPlanes& planes, std::int64_t row_tile, int k_tile, int lane) {
    const std::byte* row = planes.data + row_tile * planes.row_tile_bytes;
    load_codes(row + static_cast<std::int64_t>(k_tile) * kTileBytes, lane);
    if constexpr (kQuantized) load_scales(planes, row, k_tile, lane / 4);
#pragma unroll
    for (int i = 0; i < kTableWords; ++i) table[i] = planes.table[i];
  }

  /// The A operand of columns 16 step …, of f16, bf16 and quantised formats. `step` is a constant after unrolling.
  __device__ void fragment(int step, std::uint32_t (&a)[4]) const {
    static_assert(kBits != 32, "f32 weights have no fragments");
    if constexpr (kBits == 16) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = main[4 * step + i];
    } else if constexpr (kTableWords > 0) {
      const std::uint32_t indices = main[step] & 0x77777777u;
      const std::uint32_t parts = 0x32103210u | (main[step] & 0x88888888u) >> 1;  // which half of the table
      const std::uint32_t first = look_up(table, indices, parts);
      const std::uint32_t second = look_up(table, indices >> 16, parts >> 16);
      if constexpr (kLayout.table == WeightTable::bytes) {
        bytes_to_integers(step, first, second, a);
      } else {
        const std::uint32_t first_upper = look_up(table + 4, indices, parts);
        const std::uint32_t second_upper = look_up(table + 4, indices >> 16, parts >> 16);
        a[0] = __byte_perm(first, first_upper, 0x5140);
        a[1] = __byte_perm(first, first_upper, 0x7362);
        a[2] = __byte_perm(second, second_upper, 0x5140);
        a[3] = __byte_perm(second, second_upper, 0x7362);
      }
    } else if constexpr (kBits == 8) {
      bytes_to_integers(step, main[2 * step], main[2 * step + 1], a);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = narrow_to_integers(step, i);
    }
  }

  __device__ float scale(int group, bool upper) const {
    if constexpr (kScales == WeightScales::d) {
      return half_float(scales[upper], group);
    } else if constexpr (kScales == WeightScales::dm) {
      return half_float(scales[2 * upper + group], false);
    } else if constexpr (kScales == WeightScales::k) {
      return half_float(super[upper], false) * static_cast<float>((scales[upper] >> (16 * group)) & 255);
    } else if constexpr (kScales == WeightScales::k16dm) {
      return half_float(super[upper], false) * static_cast<float>((scales[upper] >> (8 * group)) & 15);
    } else if constexpr (kScales == WeightScales::k16s) {
      const int at = kGroups * upper + group;
      return half_float(super[0], upper) *
             static_cast<float>(static_cast<std::int8_t>(scales[at / 4] >> (8 * (at % 4))));
    } else if constexpr (kScales == WeightScales::k16p) {
      const int low = (scales[0] >> (16 * upper + 4 * group)) & 15;
      const int high = (scales[1] >> (8 * upper + 2 * group)) & 3;
      return half_float(super[0], upper) * static_cast<float>((low | high << 4) - 32);
    } else if constexpr (kScales == WeightScales::dz || kScales == WeightScales::s) {
      return __uint_as_float(scales[kGroups * upper + group]);
    } else {
      static_assert(kScales == WeightScales::dz64, "this format has no scales");
      return __uint_as_float(super[upper]);
    }
  }

  __device__ float minimum(int group, bool upper) const {
    if constexpr (kScales == WeightScales::dm) {
      return -half_float(scales[2 * upper + group], true);
    } else if constexpr (kScales == WeightScales::k) {
      return half_float(super[upper], true) * static_cast<float>((scales[upper] >> (16 * group + 8)) & 255);
    } else {
      static_assert(kScales == WeightScales::k16dm, "this format has no minima");
      return half_float(super[upper], true) * static_cast<float>((scales[upper] >> (8 * group + 4)) & 15);
    }
  }

  /// The 8 weights of a step, w[2 i + h] being half h of pair i, as dequantize_row gives them.
  __device__ void values(int step, float (&w)[8]) const {
    if constexpr (kBits == 32) {
#pragma unroll
      for (int i = 0; i < 8; ++i) w[i] = __uint_as_float(main[8 * step + i]);
    } else if constexpr (F == WeightFormat::bf16) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        w[2 * i] = __uint_as_float(main[4 * step + i] << 16);
        w[2 * i + 1] = __uint_as_float(main[4 * step + i] & 0xffff0000u);
      }
    } else {
      std::uint32_t a[4];
      fragment(step, a);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        w[i] = half_float(a[i / 2], i % 2);
        if constexpr (kQuantized) {
          const int group = 16 * step / kGroup;
          const bool upper = i / 2 % 2;
          // Code times scale has at most 24 bits unless there is no minimum, so the product may be fused or not.
          w[i] *= scale(group, upper);
          if constexpr (kHasMin) w[i] -= minimum(group, upper);
        }
      }
    }
  }

  std::uint32_t main[kMainWords];
  std::uint32_t two[kTwoWords > 0 ? kTwoWords : 1];
  std::uint32_t one[1];
  std::uint32_t scales[kScaleWords > 0 ? kScaleWords : 1];
  std::uint32_t super[kSuperWords > 0 ? kSuperWords : 1];
  std::uint32_t zeros;     // of dz and dz64, bytes in the order of the scales
  std::uint32_t table[kTableWords > 0 ? kTableWords : 1];

 private:
  /// Four bytes of a table of sixteen, each from one of its halves.
  static __device__ std::uint32_t look_up(const std::uint32_t* bytes, std::uint32_t indices, std::uint32_t parts) {
    return __byte_perm(__byte_perm(bytes[0], bytes[1], indices), __byte_perm(bytes[2], bytes[3], indices), parts);
  }

  template <int words>
  static __device__ void load_lane(const std::byte* plane, int lane, std::uint32_t* to) {
    if constexpr (words % 4 == 0) {
#pragma unroll
      for (int c = 0; c < words / 4; ++c) {
        const uint4 v = ptx::load_weights_16(plane + 512 * c + 16 * lane);
        to[4 * c] = v.x;
        to[4 * c + 1] = v.y;
        to[4 * c + 2] = v.z;
        to[4 * c + 3] = v.w;
      }
    } else if constexpr (words == 2) {
      const uint2 v = ptx::load_weights_8(plane + 8 * lane);
      to[0] = v.x;
      to[1] = v.y;
    } else {
      to[0] = ptx::load_weights_4(plane + 4 * lane);
    }
  }

  /// Words of a place that four lanes, or many tiles, read.
  template <int words>
  static __device__ void load_shared_words(const std::byte* at, std::uint32_t* to) {
    if constexpr (words % 4 == 0) {
#pragma unroll
      for (int c = 0; c < words / 4; ++c) {
        const uint4 v = __ldg(reinterpret_cast<const uint4*>(at) + c);
        to[4 * c] = v.x;
        to[4 * c + 1] = v.y;
        to[4 * c + 2] = v.z;
        to[4 * c + 3] = v.w;
      }
    } else if constexpr (words == 2) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(at));
      to[0] = v.x;
      to[1] = v.y;
    } else if constexpr (words == 1) {
      to[0] = __ldg(reinterpret_cast<const std::uint32_t*>(at));
    }
  }

  __device__ void load_codes(const std::byte* tile, int lane) {
    load_lane<kMainWords>(tile, lane, main);
    if constexpr (kTwoWords > 0) load_lane<2>(tile + kTwoAt, lane, two);
    if constexpr (kOneWords > 0) load_lane<1>(tile + kOneAt, lane, one);
  }

  __device__ void load_scales(const WeightPlanes& planes, const std::byte* row, int k_tile, int g) {
    const std::byte* at = row + static_cast<std::int64_t>(k_tile) * kTileBytes + kScalesAt;
    const std::byte* supers = row + static_cast<std::int64_t>(planes.k_tiles) * kTileBytes;
    const int entry = k_tile >> planes.super_shift;
    if constexpr (kScales == WeightScales::k16p) {
      const std::byte* here = supers + entry * kLayout.super_bytes;
      const int quarter = k_tile & 3;
      scales[0] = __ldg(reinterpret_cast<const std::uint32_t*>(here + 32 * quarter) + g);
      scales[1] = __ldg(reinterpret_cast<const std::uint16_t*>(here + 128 + 16 * quarter) + g);
      super[0] = __ldg(reinterpret_cast<const std::uint32_t*>(here + 192) + g);
      return;
    }
    load_shared_words<kScaleWords>(at + 4 * kScaleWords * g, scales);
    load_shared_words<kSuperWords>(supers + entry * kLayout.super_bytes + 4 * kSuperWords * g, super);
    if constexpr (kScales == WeightScales::dz) {
      zeros = __ldg(reinterpret_cast<const std::uint32_t*>(at + 128) + g);
    }
    if constexpr (kScales == WeightScales::dz64) {
      const int entries = planes.k_tiles >> planes.super_shift;
      zeros = __ldg(reinterpret_cast<const std::uint16_t*>(supers + 64 * entries + 16 * entry) + g);
    }
  }

  static constexpr bool kOwnZeros = kScales == WeightScales::dz || kScales == WeightScales::dz64;
  static constexpr std::uint32_t kThousands = 0x64006400;  // 1024 in both halves; a code below 1024 fits its fraction

  /// 1024 plus the zero of the row and group that pair i of a step belongs to, in both halves.
  __device__ __half2 own_zero(int step, int i) const {
    const int group = 16 * step / kGroup;
    const int at = (64 / kGroup) * (i % 2) + group;
    return halves_of(kThousands | ((zeros >> (8 * at)) & 255) * 0x10001u);
  }

  /// Pairs of unsigned bytes less the zero.
  __device__ void bytes_to_integers(int step, std::uint32_t first, std::uint32_t second, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __half2 raised = halves_of(__byte_perm(i < 2 ? first : second, 0x64646464u, i % 2 == 0 ? 0x4140 : 0x4342));
      if constexpr (kOwnZeros) {
        a[i] = bits_of(__hsub2(raised, own_zero(step, i)));
      } else {
        a[i] = bits_of(__hadd2(raised, halves_of(negative_halves(1024 + kLayout.zero))));
      }
    }
  }

  /// Pair i of a step of codes of at most 6 bits, taken 2^p times too large where they lie at bit p.
  __device__ std::uint32_t narrow_to_integers(int step, int i) const {
    constexpr bool nibbles = kMainBits == 4;
    const int p = nibbles ? 4 * (i % 2) : 2 * i;
    std::uint32_t code;
    if constexpr (nibbles) {
      code = (main[step] >> (8 * (i / 2))) & (0x000f000fu << p);
    } else {
      code = (main[step / 2] >> (8 * (step % 2))) & (0x00030003u << p);
    }
    const int at = p + kMainBits;
    if constexpr (kTwoWords > 0) {
      code |= move_bits(two[step / 2], 8 * (step % 2) + 2 * i, at) & (0x00030003u << at);
    }
    if constexpr (kOneWords > 0) code |= move_bits(one[0], 4 * step + i, at) & (0x00010001u << at);
    const __half2 raised = halves_of(code | kThousands);
    if constexpr (kOwnZeros) {
      const __half2 offset = __hsub2(halves_of(raised_offset(p)), own_zero(step, i));
      return bits_of(__hfma2(raised, halves_of(power_halves(p)), offset));
    } else {
      return bits_of(
          __hfma2(raised, halves_of(power_halves(p)), halves_of(negative_halves((1024 >> p) + kLayout.zero))));
    }
  }

  /// 1024 - 1024 / 2^p, p = 0, 2, 4, 6.
  static __device__ constexpr std::uint32_t raised_offset(int p) {
    return p == 0 ? 0 : negative_halves(1024 - (1024 >> p)) & 0x7fff7fffu;
  }
};

}  // namespace inferd::cuda
