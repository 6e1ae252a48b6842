// Lattice and base-3 blocks, spread to signed bytes and f32 scales. Layouts: quant_formats_iq.cpp (stored),
// packed_format.h.
#include "kernels/cpu/linear/spread.h"

#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "kernels/quant_formats.h"
#include "kernels/quant_grids.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

constexpr std::uint64_t kOnes = 0x0101010101010101;

template <typename T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Points of a lattice as bytes, eight (IQ2, IQ1) or four (IQ3) to an entry.
template <typename Entry, int kBits, std::size_t kPoints>
std::array<Entry, kPoints> bytes_of(const std::uint16_t (&grid)[kPoints], std::initializer_list<int> values) {
  std::array<Entry, kPoints> table{};
  for (std::size_t point = 0; point < kPoints; ++point) {
    for (unsigned i = 0; i < sizeof(Entry); ++i) {
      const unsigned index = (grid[point] >> (kBits * i)) & ((1u << kBits) - 1);
      INFERD_CHECK(index < values.size());
      table[point] |= static_cast<Entry>(static_cast<std::uint8_t>(values.begin()[index])) << (8 * i);
    }
  }
  return table;
}

struct Tables {
  std::array<std::uint64_t, 256> iq2_xxs = bytes_of<std::uint64_t, 2>(kIq2XxsGrid, {8, 25, 43});
  std::array<std::uint64_t, 512> iq2_xs = bytes_of<std::uint64_t, 2>(kIq2XsGrid, {8, 25, 43});
  std::array<std::uint64_t, 1024> iq2_s = bytes_of<std::uint64_t, 2>(kIq2SGrid, {8, 25, 43});
  std::array<std::uint32_t, 256> iq3_xxs = bytes_of<std::uint32_t, 3>(kIq3XxsGrid, {4, 12, 20, 28, 36, 44, 52, 62});
  std::array<std::uint32_t, 512> iq3_s = bytes_of<std::uint32_t, 3>(kIq3SGrid, {1, 3, 5, 7, 9, 11, 13, 15});
  /// Eighths, plus 127: adding 0 or 2 for delta and flipping the top bit makes them signed.
  std::array<std::uint64_t, 2048> iq1 = bytes_of<std::uint64_t, 2>(kIq1Grid, {119, 127, 135});
  std::array<std::uint64_t, 256> signs{};       // all ones where a bit is set
  std::array<std::uint64_t, 128> even_signs{};  // likewise, an eighth bit making their number even

  Tables() {
    for (unsigned bits = 0; bits < 256; ++bits) {
      for (unsigned i = 0; i < 8; ++i) signs[bits] |= ((bits >> i) & 1 ? std::uint64_t{255} : 0) << (8 * i);
    }
    for (unsigned bits = 0; bits < 128; ++bits) {
      even_signs[bits] = signs[bits | (static_cast<unsigned>(std::popcount(bits)) % 2 << 7)];
    }
  }
};

const Tables& tables() {
  static const Tables made;
  return made;
}

/// Magnitudes, none 0, negated where the mask is all ones: no byte carries into the next.
std::uint64_t negated(std::uint64_t magnitudes, std::uint64_t mask) { return (magnitudes ^ mask) + (mask & kOnes); }

/// One lane of a group of eight spread blocks: a super-block of one row.
class Lane {
 public:
  Lane(std::byte* group, int lane) : codes_(group + 4 * lane), scales_(group + kGroupBlocks * kPayload + 4 * lane) {}

  /// Columns 32 * block + 8 * i …
  void put(int block, int i, std::uint64_t eight) const {
    std::byte* to = codes_ + block * kPayload + i * 128;
    std::memcpy(to, &eight, 4);
    eight >>= 32;
    std::memcpy(to + 64, &eight, 4);
  }
  /// The scale of columns 32 * block …
  void put_scale(int block, float scale) const { std::memcpy(scales_ + block * 64, &scale, 4); }
  /// The scale of columns 16 * half …
  void put_half_scale(int half, float scale) const { std::memcpy(scales_ + half * 64, &scale, 4); }

 private:
  static constexpr int kPayload = packed_format(kSpread32).payload_bytes;
  std::byte* codes_;
  std::byte* scales_;
};

/// Scale codes: (2 code + 1) / 8. Times a half and a power of two exact.
constexpr float kFactors[16] = {0.125f, 0.375f, 0.625f, 0.875f, 1.125f, 1.375f, 1.625f, 1.875f,
                                2.125f, 2.375f, 2.625f, 2.875f, 3.125f, 3.375f, 3.625f, 3.875f};

unsigned nibble(Bytes bytes, int index) { return (bytes[index / 2] >> (4 * (index % 2))) & 15u; }

void spread_iq2_xxs(const Tables& t, Bytes block, const Lane& lane) {
  const float d = f16_to_f32(load<std::uint16_t>(block));
  for (int b = 0; b < 8; ++b) {
    const Bytes points = block + 2 + 8 * b;
    const auto packed = load<std::uint32_t>(points + 4);
    lane.put_scale(b, d * kFactors[packed >> 28]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      lane.put(b, i, negated(t.iq2_xxs[points[i]], t.even_signs[(packed >> (7 * i)) & 127]));
    }
  }
}

void spread_iq2_xs(const Tables& t, Bytes block, const Lane& lane) {
  const float d = f16_to_f32(load<std::uint16_t>(block));
  for (int half = 0; half < 16; ++half) lane.put_half_scale(half, d * kFactors[nibble(block + 66, half)]);
  for (int b = 0; b < 8; ++b) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const unsigned packed = load<std::uint16_t>(block + 2 + 8 * b + 2 * i);
      lane.put(b, i, negated(t.iq2_xs[packed & 511], t.even_signs[packed >> 9]));
    }
  }
}

void spread_iq2_s(const Tables& t, Bytes block, const Lane& lane) {
  const float d = f16_to_f32(load<std::uint16_t>(block));
  for (int half = 0; half < 16; ++half) lane.put_half_scale(half, d * kFactors[nibble(block + 74, half)]);
  for (int b = 0; b < 8; ++b) {
    const unsigned upper = block[66 + b];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const unsigned point = block[2 + 4 * b + i] | (((upper >> (2 * i)) & 3u) << 8);
      lane.put(b, i, negated(t.iq2_s[point], t.signs[block[34 + 4 * b + i]]));
    }
  }
}

void spread_iq3_xxs(const Tables& t, Bytes block, const Lane& lane) {
  const float d = 2.0f * f16_to_f32(load<std::uint16_t>(block));
  for (int b = 0; b < 8; ++b) {
    const auto packed = load<std::uint32_t>(block + 66 + 4 * b);
    lane.put_scale(b, d * kFactors[packed >> 28]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Bytes points = block + 2 + 8 * b + 2 * i;
      const std::uint64_t eight = t.iq3_xxs[points[0]] | static_cast<std::uint64_t>(t.iq3_xxs[points[1]]) << 32;
      lane.put(b, i, negated(eight, t.even_signs[(packed >> (7 * i)) & 127]));
    }
  }
}

void spread_iq3_s(const Tables& t, Bytes block, const Lane& lane) {
  const float d = 8.0f * f16_to_f32(load<std::uint16_t>(block));
  for (int b = 0; b < 8; ++b) {
    lane.put_scale(b, d * kFactors[nibble(block + 106, b)]);
    const unsigned ninths = block[66 + b];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Bytes points = block + 2 + 8 * b + 2 * i;
      const unsigned first = points[0] | (((ninths >> (2 * i)) & 1) << 8);
      const unsigned second = points[1] | (((ninths >> (2 * i + 1)) & 1) << 8);
      const std::uint64_t eight = t.iq3_s[first] | static_cast<std::uint64_t>(t.iq3_s[second]) << 32;
      lane.put(b, i, negated(eight, t.signs[block[74 + 4 * b + i]]));
    }
  }
}

/// Eighths of -1, 0, 1, moved by one; down: 0 or 1. No branch: the processor could not guess it.
std::uint64_t iq1_point(const Tables& t, unsigned point, unsigned down) {
  return (t.iq1[point] + 2 * kOnes * (1 - down)) ^ (0x80 * kOnes);
}

void spread_iq1_s(const Tables& t, Bytes block, const Lane& lane) {
  const float d = f16_to_f32(load<std::uint16_t>(block));
  for (int b = 0; b < 8; ++b) {
    const unsigned high = load<std::uint16_t>(block + 34 + 2 * b);
    lane.put_scale(b, d * kFactors[(high >> 12) & 7]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const unsigned point = block[2 + 4 * b + i] | (((high >> (3 * i)) & 7) << 8);
      lane.put(b, i, iq1_point(t, point, high >> 15));
    }
  }
}

void spread_iq1_m(const Tables& t, Bytes block, const Lane& lane) {
  unsigned scales[4];
  unsigned half = 0;
  for (int i = 0; i < 4; ++i) {
    scales[i] = load<std::uint16_t>(block + 48 + 2 * i);
    half |= (scales[i] >> 12) << (4 * i);
  }
  const float d = f16_to_f32(static_cast<std::uint16_t>(half));
  for (int i = 0; i < 16; ++i) {
    lane.put_half_scale(i, d * kFactors[(scales[i / 4] >> (3 * (i % 4))) & 7]);
  }
  for (int b = 0; b < 8; ++b) {
    const unsigned upper = load<std::uint16_t>(block + 32 + 2 * b);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const unsigned high = upper >> (4 * i);
      lane.put(b, i, iq1_point(t, block[4 * b + i] | ((high & 7) << 8), (high >> 3) & 1));
    }
  }
}

/// Planes of `width` columns: column j of plane n is digit n of byte j.
template <int kWidth, int kDigits>
void spread_digits(Bytes bytes, std::int8_t* out) {
  unsigned power = 1;
  for (int n = 0; n < kDigits; ++n, power *= 3) {
    for (int j = 0; j < kWidth; ++j) {
      *out++ = static_cast<std::int8_t>(static_cast<int>((((bytes[j] * power) & 255) * 3) >> 8) - 1);
    }
  }
}

void spread_tq1_0(Bytes block, const Lane& lane) {
  std::int8_t codes[256];
  spread_digits<32, 5>(block, codes);
  spread_digits<16, 5>(block + 32, codes + 160);
  spread_digits<4, 4>(block + 48, codes + 240);
  const float d = f16_to_f32(load<std::uint16_t>(block + 52));
  for (int b = 0; b < 8; ++b) lane.put_scale(b, d);
  for (int b = 0; b < 8; ++b) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) lane.put(b, i, load<std::uint64_t>(reinterpret_cast<Bytes>(codes + 32 * b + 8 * i)));
  }
}

template <typename Spread>
void spread_rows(DType dtype, const std::byte* tile, std::int64_t columns, std::byte* out, const Spread& spread) {
  const std::int64_t group_bytes = packed_format(spread_type(dtype)).group_bytes(kGroupBlocks);
  const std::int64_t block_bytes = dtype_info(dtype).block_bytes, blocks = columns / dtype_info(dtype).block_elements;
  for (std::int64_t block = 0; block < blocks; ++block, out += group_bytes) {
    for (int lane = 0; lane < kTileRows; ++lane) {
      const Bytes at = reinterpret_cast<Bytes>(tile) + (lane * blocks + block) * block_bytes;
      const Bytes next = at + kTileRows * blocks * block_bytes;  // the tile behind this one is read next
      __builtin_prefetch(next);
      if (block_bytes > 64) __builtin_prefetch(next + 64);
      spread(at, Lane(out, lane));
    }
  }
}

}  // namespace

void spread_tile(DType dtype, const std::byte* tile, std::int64_t columns, std::byte* out) {
  const Tables& t = tables();
  const auto rows = [&](auto spread) { spread_rows(dtype, tile, columns, out, spread); };
  switch (dtype) {
    case DType::iq2_xxs:
      return rows([&](Bytes block, const Lane& lane) { spread_iq2_xxs(t, block, lane); });
    case DType::iq2_xs:
      return rows([&](Bytes block, const Lane& lane) { spread_iq2_xs(t, block, lane); });
    case DType::iq2_s:
      return rows([&](Bytes block, const Lane& lane) { spread_iq2_s(t, block, lane); });
    case DType::iq3_xxs:
      return rows([&](Bytes block, const Lane& lane) { spread_iq3_xxs(t, block, lane); });
    case DType::iq3_s:
      return rows([&](Bytes block, const Lane& lane) { spread_iq3_s(t, block, lane); });
    case DType::iq1_s:
      return rows([&](Bytes block, const Lane& lane) { spread_iq1_s(t, block, lane); });
    case DType::iq1_m:
      return rows([&](Bytes block, const Lane& lane) { spread_iq1_m(t, block, lane); });
    case DType::tq1_0:
      return rows(spread_tq1_0);
    default:
      INFERD_CHECK(false);
  }
}

}  // namespace inferd
