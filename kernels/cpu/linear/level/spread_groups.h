// Lattice and base-3 blocks, spread to signed bytes and f32 scales. Layouts: quant_formats_iq.cpp (stored),
// packed_format.h (spread). Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/simd.h"
#include "kernels/cpu/linear/spread.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

template <typename T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float half_of(std::uint16_t bits) {
#if INFERD_LEVEL_RANK > 0
  return _cvtsh_ss(bits);
#else
  return f16_to_f32(bits);
#endif
}
float half(Bytes at) { return half_of(load<std::uint16_t>(at)); }

using Vector = std::uint8_t __attribute__((vector_size(16)));
using Words = std::uint32_t __attribute__((vector_size(16)));
using Floats = float __attribute__((vector_size(16)));
using Longs = std::uint64_t __attribute__((vector_size(16)));

/// Columns of one row: points of a lattice, and what finish() makes values of them with.
struct Eight {
  std::uint64_t points;
  std::uint64_t with = 0;
};
struct Sixteen {
  Vector points;
  Vector with;
};

template <typename Row>
Sixteen sixteen_of_eights(const Row& row, int b, int h) {
  const Eight first = row.eight(b, 2 * h), second = row.eight(b, 2 * h + 1);
  return {reinterpret_cast<Vector>(Longs{first.points, second.points}),
          reinterpret_cast<Vector>(Longs{first.with, second.with})};
}

/// A stored block of a lattice.
struct Lattice {
  const SpreadTables& t;
  Bytes block;
  float d;
};

/// Magnitudes, negated where the mask is all ones.
struct Negated : Lattice {
  static Vector finish(Vector magnitudes, Vector mask) { return (magnitudes ^ mask) - mask; }
};

/// Scale codes: (2 code + 1) / 8. Times a half and a power of two exact.
constexpr float kFactors[16] = {0.125f, 0.375f, 0.625f, 0.875f, 1.125f, 1.375f, 1.625f, 1.875f,
                                2.125f, 2.375f, 2.625f, 2.875f, 3.125f, 3.375f, 3.625f, 3.875f};

unsigned nibble(Bytes bytes, int index) { return (bytes[index / 2] >> (4 * (index % 2))) & 15u; }

// Readers of a stored block: sixteen(b, h) are its columns 32 b + 16 h …, scale(at) that of columns 32 at … or 16 at ….

struct Iq2Xxs : Negated {
  Iq2Xxs(const SpreadTables& tables, Bytes at) : Negated{{tables, at, half(at)}} {}
  std::uint32_t packed(int b) const { return load<std::uint32_t>(block + 6 + 8 * b); }
  Eight eight(int b, int i) const {
    return {t.iq2_xxs[block[2 + 8 * b + i]], t.even_signs[(packed(b) >> (7 * i)) & 127]};
  }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int b) const { return d * kFactors[packed(b) >> 28]; }
};

struct Iq2Xs : Negated {
  Iq2Xs(const SpreadTables& tables, Bytes at) : Negated{{tables, at, half(at)}} {}
  Eight eight(int b, int i) const {
    const unsigned packed = load<std::uint16_t>(block + 2 + 8 * b + 2 * i);
    return {t.iq2_xs[packed & 511], t.even_signs[packed >> 9]};
  }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int half) const { return d * kFactors[nibble(block + 66, half)]; }
};

struct Iq2S : Negated {
  Iq2S(const SpreadTables& tables, Bytes at) : Negated{{tables, at, half(at)}} {}
  Eight eight(int b, int i) const {
    const unsigned upper = (static_cast<unsigned>(block[66 + b]) >> (2 * i)) & 3u;
    return {t.iq2_s[block[2 + 4 * b + i] | (upper << 8)], t.signs[block[34 + 4 * b + i]]};
  }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int half) const { return d * kFactors[nibble(block + 74, half)]; }
};

struct Iq3Xxs : Negated {
  Iq3Xxs(const SpreadTables& tables, Bytes at) : Negated{{tables, at, 2.0f * half(at)}} {}
  std::uint32_t packed(int b) const { return load<std::uint32_t>(block + 66 + 4 * b); }
  Sixteen sixteen(int b, int h) const {
    const Bytes at = block + 2 + 8 * b + 4 * h;
    const Words points = {t.iq3_xxs[at[0]], t.iq3_xxs[at[1]], t.iq3_xxs[at[2]], t.iq3_xxs[at[3]]};
    const std::uint32_t signs = packed(b) >> (14 * h);
    return {reinterpret_cast<Vector>(points),
            reinterpret_cast<Vector>(Longs{t.even_signs[signs & 127], t.even_signs[(signs >> 7) & 127]})};
  }
  float scale(int b) const { return d * kFactors[packed(b) >> 28]; }
};

struct Iq3S : Negated {
  Iq3S(const SpreadTables& tables, Bytes at) : Negated{{tables, at, 8.0f * half(at)}} {}
  Sixteen sixteen(int b, int h) const {
    const Bytes at = block + 2 + 8 * b + 4 * h, signs = block + 74 + 4 * b + 2 * h;
    const unsigned ninths = static_cast<unsigned>(block[66 + b]) << (8 - 4 * h);  // that of point k is bit 8 + k
    const Words points = {t.iq3_s[at[0] | (ninths & 256)], t.iq3_s[at[1] | ((ninths >> 1) & 256)],
                          t.iq3_s[at[2] | ((ninths >> 2) & 256)], t.iq3_s[at[3] | ((ninths >> 3) & 256)]};
    return {reinterpret_cast<Vector>(points), reinterpret_cast<Vector>(Longs{t.signs[signs[0]], t.signs[signs[1]]})};
  }
  float scale(int b) const { return d * kFactors[nibble(block + 106, b)]; }
};

/// Eighths of -1, 0, 1, plus 127: moved by 0 or 2, then made signed.
struct Moved : Lattice {
  static constexpr std::uint64_t kMoves[2] = {0x0202020202020202, 0};  // up, down
  static Vector finish(Vector points, Vector move) { return (points + move) ^ 0x80; }
};

struct Iq1S : Moved {
  Iq1S(const SpreadTables& tables, Bytes at) : Moved{{tables, at, half(at)}} {}
  unsigned high(int b) const { return load<std::uint16_t>(block + 34 + 2 * b); }
  Eight eight(int b, int i) const {
    return {t.iq1[block[2 + 4 * b + i] | (((high(b) >> (3 * i)) & 7) << 8)], kMoves[high(b) >> 15]};
  }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int b) const { return d * kFactors[(high(b) >> 12) & 7]; }
};

struct Iq1M : Moved {
  Iq1M(const SpreadTables& tables, Bytes at) : Moved{{tables, at, 0.0f}} {
    unsigned bits = 0;
    for (int i = 0; i < 4; ++i) bits |= (scales(i) >> 12) << (4 * i);
    d = half_of(static_cast<std::uint16_t>(bits));
  }
  unsigned scales(int i) const { return load<std::uint16_t>(block + 48 + 2 * i); }
  Eight eight(int b, int i) const {
    const unsigned high = nibble(block + 32, 4 * b + i);
    return {t.iq1[block[4 * b + i] | ((high & 7) << 8)], kMoves[high >> 3]};
  }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int half) const { return d * kFactors[(scales(half / 4) >> (3 * (half % 4))) & 7]; }
};

/// Planes of kWidth columns: column j of plane n is digit n of byte j, a fraction of 256; less 1.
template <int kWidth, int kDigits>
void spread_digits(Bytes bytes, std::uint8_t* out) {
  constexpr int kStep = kWidth < 16 ? kWidth : 16;
  for (int j = 0; j < kWidth; j += kStep) {
    Vector fractions{};
    std::memcpy(&fractions, bytes + j, kStep);
    for (int n = 0; n < kDigits; ++n) {
      const auto above = reinterpret_cast<Vector>(fractions >= 86) + reinterpret_cast<Vector>(fractions >= 171);
      const Vector codes = 255 - above;  // each mask counts as -1
      std::memcpy(out + n * kWidth + j, &codes, kStep);
      fractions = fractions + fractions + fractions;
    }
  }
}

struct Tq1 {
  Tq1(const SpreadTables&, Bytes block) : d(half(block + 52)) {
    spread_digits<32, 5>(block, codes);
    spread_digits<16, 5>(block + 32, codes + 160);
    spread_digits<4, 4>(block + 48, codes + 240);
  }
  Eight eight(int b, int i) const { return {load<std::uint64_t>(codes + 32 * b + 8 * i)}; }
  static Vector finish(Vector codes, Vector) { return codes; }
  Sixteen sixteen(int b, int h) const { return sixteen_of_eights(*this, b, h); }
  float scale(int) const { return d; }

  std::uint8_t codes[256];
  float d;
};

constexpr int kQuad = 4;  // rows taken apart side by side

/// Writes 16 columns of four rows: dword g of row r to lane r of vector g.
void store_transposed(const Vector (&rows)[kQuad], std::byte* out) {
  const auto words = [&](int r) { return reinterpret_cast<Words>(rows[r]); };
  const auto low = [](Words a, Words b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); };
  const auto high = [](Words a, Words b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); };
  const auto store = [&](int g, Words ab, Words cd, bool upper) {
    const auto a = reinterpret_cast<Longs>(ab), c = reinterpret_cast<Longs>(cd);
    const Longs four = upper ? __builtin_shufflevector(a, c, 1, 3) : __builtin_shufflevector(a, c, 0, 2);
    std::memcpy(out + 64 * g, &four, sizeof four);
  };
  const Words first = low(words(0), words(1)), second = low(words(2), words(3));
  store(0, first, second, false);
  store(1, first, second, true);
  const Words third = high(words(0), words(1)), fourth = high(words(2), words(3));
  store(2, third, fourth, false);
  store(3, third, fourth, true);
}

/// One super-block of four rows, to lanes of a group of eight spread blocks. group: advanced to the first lane.
template <typename Row>
void spread_quad(const Row (&rows)[kQuad], int scales, std::byte* group) {
  constexpr int kPayload = packed_format(kSpread32).payload_bytes;
  for (int b = 0; b < kGroupBlocks; ++b) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      Vector columns[kQuad];
#pragma GCC unroll 4
      for (int r = 0; r < kQuad; ++r) {
        const Sixteen found = rows[r].sixteen(b, h);
        columns[r] = Row::finish(found.points, found.with);
      }
      store_transposed(columns, group + b * kPayload + 256 * h);
    }
  }
  std::byte* at = group + kGroupBlocks * kPayload;
  for (int i = 0; i < scales; ++i, at += 64) {
    const Floats four = {rows[0].scale(i), rows[1].scale(i), rows[2].scale(i), rows[3].scale(i)};
    std::memcpy(at, &four, sizeof four);
  }
}

/// What spread_groups is asked for.
struct Groups {
  const std::byte* tile;
  std::int64_t blocks;  // of a row
  std::int64_t begin, end;
  std::byte* out;
};

template <DType kType, typename Row>
void spread_rows(const Groups& groups) {
  constexpr std::int64_t kOutBytes = packed_format(spread_type(kType)).group_bytes(kGroupBlocks);
  constexpr int kScales = spread_type(kType) == kSpread16 ? 16 : 8;
  const SpreadTables& t = spread_tables();
  const std::int64_t block_bytes = dtype_info(kType).block_bytes;
  std::byte* out = groups.out;
  for (std::int64_t block = groups.begin; block < groups.end; ++block, out += kOutBytes) {
    for (int lane = 0; lane < kTileRows; lane += kQuad) {
      const auto at = [&](int r) {
        return reinterpret_cast<Bytes>(groups.tile) + ((lane + r) * groups.blocks + block) * block_bytes;
      };
      for (int r = 0; r < kQuad; ++r) {  // the tile behind this one is read next
        const Bytes next = at(r) + kTileRows * groups.blocks * block_bytes;
        __builtin_prefetch(next);
        if (block_bytes > 64) __builtin_prefetch(next + 64);
      }
      const Row rows[kQuad] = {Row(t, at(0)), Row(t, at(1)), Row(t, at(2)), Row(t, at(3))};
      spread_quad(rows, kScales, out + 4 * lane);
    }
  }
}

/// Spreads `count` groups of 256 columns of a tile of 16 stored rows, from the `group`th on. out: so many columns of a
/// tile of spread_type(dtype), aligned to 64.
void spread_groups(DType dtype, const std::byte* tile, std::int64_t columns, std::int64_t group, std::int64_t count,
                   std::byte* out) {
  const Groups groups{tile, columns / kGroupColumns, group, group + count, out};
  switch (dtype) {
    case DType::iq2_xxs:
      return spread_rows<DType::iq2_xxs, Iq2Xxs>(groups);
    case DType::iq2_xs:
      return spread_rows<DType::iq2_xs, Iq2Xs>(groups);
    case DType::iq2_s:
      return spread_rows<DType::iq2_s, Iq2S>(groups);
    case DType::iq3_xxs:
      return spread_rows<DType::iq3_xxs, Iq3Xxs>(groups);
    case DType::iq3_s:
      return spread_rows<DType::iq3_s, Iq3S>(groups);
    case DType::iq1_s:
      return spread_rows<DType::iq1_s, Iq1S>(groups);
    case DType::iq1_m:
      return spread_rows<DType::iq1_m, Iq1M>(groups);
    case DType::tq1_0:
      return spread_rows<DType::tq1_0, Tq1>(groups);
    default:
      return;  // is_kept_as_stored has no other type
  }
}

}  // namespace
}  // namespace inferd
