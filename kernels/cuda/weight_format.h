// Packed weights of the CUDA backend: what each format holds and where, shared by the packer and the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace inferd::cuda {

// A matrix is cut into tiles of 16 rows by 64 columns. Rows are padded to 16, columns to 64, with zero bytes: codes
// times a scale of zero, less a minimum of zero. Tile row r of row tile t is row 16 t + r; in an interleaved gated
// matrix rows 0-7 are gate rows 8 t + r and rows 8-15 up rows 8 t + r - 8, so one lane holds a gate and its up.
//
// A row tile is contiguous: k_tiles tiles, then the super entries (scales shared by 2^super_shift tiles each), padded
// to 32 bytes. A tile is the format's planes one after another, each [16-byte chunk][lane][16 B], or [lane][8 or 4 B]
// where a lane has less, then the scales [g = 0..7][scale_bytes]: those of rows g and g + 8.
//
// Lane 4 g + t holds, for each step s of 16 columns, the A operand of mma.m16n8k16: pairs i = 0..3 of columns
// 16 s + 2 t + 8 (i / 2) + {0, 1} of row g + 8 (i % 2). In its planes:
//   f32            words 8 s + 2 i + {0, 1}
//   16 bits        word 4 s + i: both halves
//   8 bits         bytes 8 s + 2 i + {0, 1}
//   4 bits         word s: nibbles i and i + 4; of a table's codes nibbles 2 i and 2 i + 1
//   2 bits         word s / 2, with j = 4 (s % 2) + i: bits 2 j and 16 + 2 j, upwards
//   1 bit          word 0, with j = 4 s + i: bits j and 16 + j
// Codes of 6, 5 and 3 bits are 4 + 2, 4 + 1 and 2 + 1, the lower bits first.
// i8 is in the order of m16n8k32 instead: chunk s holds columns 32 s …, its word i columns 16 (i / 2) + 4 t + {0, 1, 2,
// 3} of row g + 8 (i % 2).
enum class WeightFormat : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  g2_32,  // codes less a zero, times an f32 scale, of 32 columns
  g2_64,  // the same of 64 or a power of two times that
  g3_32,
  g3_64,
  g4_32,
  g4_64,
  g8_32,
  g8_64,
  t4_16,  // entries of the weight's own table of 16 small integers, times an f32 scale, of 16 columns
  t4_32,
  h4_64,  // entries of the weight's own table of 16 halves, times an f32 scale, of 64 columns
  i8,     // signed bytes, times an f32 scale of the whole row; for int8 activations, so only linear_i8 reads it
};
/// The kernels of a family, one a format but i8, in the order of WeightFormat: Kernel::`family`_f32 and so on.
#define INFERD_KERNEL_OF_EACH_FORMAT(family)                                                                       \
  Kernel::family##_f32, Kernel::family##_f16, Kernel::family##_bf16, Kernel::family##_q8_0, Kernel::family##_q4_0, \
      Kernel::family##_q4_1, Kernel::family##_q5_0, Kernel::family##_q5_1, Kernel::family##_q2_k,                  \
      Kernel::family##_q3_k, Kernel::family##_q4_k, Kernel::family##_q5_k, Kernel::family##_q6_k,                  \
      Kernel::family##_iq4_nl, Kernel::family##_iq4_xs, Kernel::family##_g2_32, Kernel::family##_g2_64,            \
      Kernel::family##_g3_32, Kernel::family##_g3_64, Kernel::family##_g4_32, Kernel::family##_g4_64,              \
      Kernel::family##_g8_32, Kernel::family##_g8_64, Kernel::family##_t4_16, Kernel::family##_t4_32,              \
      Kernel::family##_h4_64
inline constexpr int kNumWeightFormats = static_cast<int>(WeightFormat::h4_64) + 1;  // without i8

inline constexpr int kRowTile = 16;
inline constexpr int kColumnTile = 64;

/// How a format's scales lie in its tiles and super entries. [2]: rows g and g + 8; G: groups of a tile.
enum class WeightScales : std::uint8_t {
  none,
  d,      // tile [2][G] f16 d
  dm,     // tile [2][G] (f16 d, f16 m)
  k,      // tile [2][G] (u8 scale, u8 minimum); super [2] (f16 d, f16 dmin)
  k16dm,  // tile [2][G] u8 (scale | minimum << 4); super [2] (f16 d, f16 dmin)
  k16s,   // tile [2][G] i8 scale; super [2] f16 d
  k16p,   // super: [4 tiles][g][2] u16 lower nibbles of 6-bit scales, [4 tiles][g][2] u8 upper pairs, [g][2] f16 d
  dz,     // tile [2][G] f32 scale, then [g][2][G] u8 zero
  dz64,   // super [2] f32 scale; behind all super entries [entries][g][2] u8 zero
  s,      // tile [2][G] f32 scale
  row,    // one super entry for all tiles: [2] f32 scale
};

/// What codes that are indices of the weight's table find there.
enum class WeightTable : std::uint8_t { none, bytes, halves };

/// What a format is made of. Bytes are of a whole plane of a tile.
struct WeightLayout {
  int bits = 0;  // of a code or value
  int zero = 0;  // a code c stands for c - zero
  WeightTable table = WeightTable::none;
  int group = 0;         // columns that share a scale, at most 64; 0: no scales
  bool has_min = false;  // a minimum is subtracted
  WeightScales scales = WeightScales::none;
  int scale_bytes = 0;  // of a tile
  int super_bytes = 0;  // of a super entry
  int super_shift = 0;  // tiles of a super entry, log2; of dz64 the weight's own

  constexpr int main_bits() const { return bits == 6 || bits == 5 ? 4 : bits == 3 ? 2 : bits; }
  constexpr int main_bytes() const { return 128 * main_bits(); }                // 32 lanes of 32 values
  constexpr int two_bytes() const { return bits == 6 ? 256 : 0; }               // a further plane of two bits
  constexpr int one_bytes() const { return bits == 5 || bits == 3 ? 128 : 0; }  // a further plane of one
  constexpr int scales_at() const { return main_bytes() + two_bytes() + one_bytes(); }
  constexpr int tile_bytes() const { return scales_at() + scale_bytes; }
};

// Bits a weight, here and in the file, where columns are a multiple of 64 (q4_0 etc.: the same in all cases):
//   q8_0 8.5, q4_0 and iq4_nl 4.5, q4_1 5, q5_0 5.5, q5_1 6, q2_k 2.625, q3_k 3.4375, q6_k 6.5625, g*: as the file's
//   q4_k 4.625 (file 4.5, +2.8%), q5_k 5.625 (5.5, +2.3%), iq4_xs 4.3125 (4.25, +1.5%)
//   t4_16 6 and t4_32 5 (files 1.56 to 4.25: these types are rare, and widened); h4_64 4.5
constexpr WeightLayout weight_layout(WeightFormat format) {
  using S = WeightScales;
  using T = WeightTable;
  switch (format) {
    case WeightFormat::f32:
      return {32};
    case WeightFormat::f16:
    case WeightFormat::bf16:
      return {16};
    case WeightFormat::q8_0:
      return {8, 128, T::none, 32, false, S::d, 64, 0, 0};
    case WeightFormat::q4_0:
      return {4, 8, T::none, 32, false, S::d, 64, 0, 0};
    case WeightFormat::q4_1:
      return {4, 0, T::none, 32, true, S::dm, 128, 0, 0};
    case WeightFormat::q5_0:
      return {5, 16, T::none, 32, false, S::d, 64, 0, 0};
    case WeightFormat::q5_1:
      return {5, 0, T::none, 32, true, S::dm, 128, 0, 0};
    case WeightFormat::q2_k:
      return {2, 0, T::none, 16, true, S::k16dm, 64, 64, 2};
    case WeightFormat::q3_k:
      return {3, 4, T::none, 16, false, S::k16p, 0, 224, 2};
    case WeightFormat::q4_k:
      return {4, 0, T::none, 32, true, S::k, 64, 64, 2};
    case WeightFormat::q5_k:
      return {5, 0, T::none, 32, true, S::k, 64, 64, 2};
    case WeightFormat::q6_k:
      return {6, 32, T::none, 16, false, S::k16s, 64, 32, 2};
    case WeightFormat::iq4_nl:
      return {4, 128, T::bytes, 32, false, S::d, 64, 0, 0};
    case WeightFormat::iq4_xs:
      return {4, 128, T::bytes, 32, false, S::k16s, 32, 32, 2};
    case WeightFormat::g2_32:
      return {2, 0, T::none, 32, false, S::dz, 160, 0, 0};
    case WeightFormat::g2_64:
      return {2, 0, T::none, 64, false, S::dz64, 0, 64, 0};
    case WeightFormat::g3_32:
      return {3, 0, T::none, 32, false, S::dz, 160, 0, 0};
    case WeightFormat::g3_64:
      return {3, 0, T::none, 64, false, S::dz64, 0, 64, 0};
    case WeightFormat::g4_32:
      return {4, 0, T::none, 32, false, S::dz, 160, 0, 0};
    case WeightFormat::g4_64:
      return {4, 0, T::none, 64, false, S::dz64, 0, 64, 0};
    case WeightFormat::g8_32:
      return {8, 0, T::none, 32, false, S::dz, 160, 0, 0};
    case WeightFormat::g8_64:
      return {8, 0, T::none, 64, false, S::dz64, 0, 64, 0};
    case WeightFormat::t4_16:
      return {4, 128, T::bytes, 16, false, S::s, 256, 0, 0};
    case WeightFormat::t4_32:
      return {4, 128, T::bytes, 32, false, S::s, 128, 0, 0};
    case WeightFormat::h4_64:
      return {4, 0, T::halves, 64, false, S::s, 64, 0, 0};
    case WeightFormat::i8:
      return {8, 0, T::none, 0, false, S::row, 0, 64, 0};
  }
  return {};
}

/// A packed matrix, or rows of one; passed to kernels.
struct WeightPlanes {
  const std::byte* data;        // row tiles
  std::int64_t row_tile_bytes;  // of one row tile, a multiple of 32
  std::int32_t k_tiles;         // padded columns / 64
  std::int32_t super_shift;     // tiles of a super entry, log2
  std::uint32_t table[8];       // four bytes a word: entry + 128; of halves the lower bytes, then the upper ones
};

}  // namespace inferd::cuda
