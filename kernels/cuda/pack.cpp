// Packing of stored rows. Layouts: weight_format.h (packed), quant_formats.cpp (stored).
#include "kernels/cuda/pack.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/stored_codes.h"
#include "kernels/quant_formats.h"

namespace inferd::cuda {
namespace {

constexpr int kBlock = 32;  // columns of StoredCodes

/// Where a row's parts go within its row tile.
struct RowPlace {
  const WeightLayout& layout;
  std::byte* row_tile;
  std::int64_t k_tiles;
  int super_shift;
  int g;      // row % 8
  int upper;  // row / 8

  std::byte* tile(std::int64_t k_tile) const { return row_tile + k_tile * layout.tile_bytes(); }
  std::byte* super(std::int64_t k_tile) const {
    return row_tile + k_tiles * layout.tile_bytes() + (k_tile >> super_shift) * layout.super_bytes;
  }
};

template <typename T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

/// Sets bits of a zero-filled plane.
void put_bits(std::byte* plane, int bit, int value) { plane[bit / 8] |= static_cast<std::byte>(value << (bit % 8)); }

void or_word(std::byte* at, std::uint32_t bits) {
  std::uint32_t word;
  std::memcpy(&word, at, sizeof word);
  put(at, word | bits);
}

/// 64 elements of a plain type, `size` bytes each.
template <int size>
void pack_plain_tile(const std::byte* stored, std::byte* tile, const RowPlace& place) {
  for (int step = 0; step < 4; ++step) {
    for (int side = 0; side < 2; ++side) {  // columns 0-7 or 8-15 of the step: pairs 2 side + upper
      const int word = (4 * step + 2 * side + place.upper) * size / 2;  // of the lane's
      std::byte* at = tile + word / 4 * 512 + 64 * place.g + 4 * (word % 4);
      const std::byte* from = stored + (16 * step + 8 * side) * size;
      for (int t = 0; t < 4; ++t) std::memcpy(at + 16 * t, from + 2 * t * size, 2 * size);
    }
  }
}

template <int size>
void pack_plain_row(const std::byte* stored, std::int64_t columns, const RowPlace& place) {
  const std::int64_t whole = columns / kColumnTile;
  for (std::int64_t k_tile = 0; k_tile < whole; ++k_tile) {
    pack_plain_tile<size>(stored + k_tile * kColumnTile * size, place.tile(k_tile), place);
  }
  if (whole == place.k_tiles) return;
  std::byte last[kColumnTile * size] = {};
  std::memcpy(last, stored + whole * kColumnTile * size, static_cast<std::size_t>(columns % kColumnTile * size));
  pack_plain_tile<size>(last, place.tile(whole), place);
}

/// Codes of columns 0, 1, 8 and 9, `drop` lower bits taken off: column 1 goes half_shift bits up, columns 8 and 9
/// pair_shift.
template <int pair_shift, int half_shift>
std::uint32_t spread(const std::uint8_t* codes, int drop, std::uint32_t mask) {
  const auto bits = [&](int column) { return (std::uint32_t{codes[column]} >> drop) & mask; };
  return bits(0) | bits(1) << half_shift | bits(8) << pair_shift | bits(9) << (pair_shift + half_shift);
}

/// Codes of a lane's columns 16 step + 2 t + {0, 1, 8, 9} of a row.
void pack_quad(const std::uint8_t* codes, int step, int lane, std::byte* tile, const RowPlace& place) {
  const WeightLayout& layout = place.layout;
  const int upper = place.upper;
  std::byte* two = tile + layout.main_bytes();
  std::byte* one = two + layout.two_bytes();
  const int two_shift = 8 * (step % 2) + 2 * upper;
  if (layout.bits == 8) {
    std::byte* at = tile + step / 2 * 512 + 16 * lane + 8 * (step % 2) + 2 * upper;
    std::memcpy(at, codes, 2);
    std::memcpy(at + 4, codes + 8, 2);
  } else if (layout.table != WeightTable::none) {
    or_word(tile + 16 * lane + 4 * step, spread<16, 4>(codes, 0, 15) << (8 * upper));
  } else if (layout.main_bits() == 4) {
    or_word(tile + 16 * lane + 4 * step, spread<8, 16>(codes, 0, 15) << (4 * upper));
  } else {
    or_word(tile + 8 * lane + 4 * (step / 2), spread<4, 16>(codes, 0, 3) << two_shift);
  }
  if (layout.bits == 6) or_word(two + 8 * lane + 4 * (step / 2), spread<4, 16>(codes, 4, 3) << two_shift);
  if (layout.one_bytes() > 0) {
    or_word(one + 4 * lane, spread<2, 16>(codes, layout.main_bits(), 1) << (4 * step + upper));
  }
}

/// Columns 32 part … of a tile.
void pack_codes(const StoredCodes& from, int part, std::byte* tile, const RowPlace& place) {
  for (int half = 0; half < 2; ++half) {
    for (int t = 0; t < 4; ++t) {
      pack_quad(from.codes + 16 * half + 2 * t, 2 * part + half, 4 * place.g + t, tile, place);
    }
  }
}

/// Scales of columns 32 part … of a tile.
void pack_scales(const StoredCodes& from, std::int64_t k_tile, int part, const RowPlace& place) {
  const WeightLayout& layout = place.layout;
  const int row = 2 * place.g + place.upper;
  const int groups = kColumnTile / layout.group;
  std::byte* scales = place.tile(k_tile) + layout.scales_at();
  std::byte* super = place.super(k_tile);
  const int halves = layout.group == 16 ? 2 : 1;
  for (int half = 0; half < halves; ++half) {
    const int at = row * groups + (layout.group == 64 ? 0 : halves * part + half);
    switch (layout.scales) {
      case WeightScales::d:
        put(scales + 2 * at, from.d);
        break;
      case WeightScales::dm:
        put(scales + 4 * at, from.d);
        put(scales + 4 * at + 2, from.d_min);
        break;
      case WeightScales::k:
        put(scales + 2 * at, static_cast<std::uint8_t>(from.scales[half]));
        put(scales + 2 * at + 1, static_cast<std::uint8_t>(from.minima[half]));
        put(super + 4 * row, from.d);
        put(super + 4 * row + 2, from.d_min);
        break;
      case WeightScales::k16dm:
        put(scales + at, static_cast<std::uint8_t>(from.scales[half] | from.minima[half] << 4));
        put(super + 4 * row, from.d);
        put(super + 4 * row + 2, from.d_min);
        break;
      case WeightScales::k16s:
        put(scales + at, static_cast<std::int8_t>(from.scales[half]));
        put(super + 2 * row, from.d);
        break;
      case WeightScales::k16p: {
        const int scale = from.scales[half] + 32;
        const int q = 2 * part + half;
        const std::int64_t quarter = k_tile % 4;
        put_bits(super + 32 * quarter + 2 * row, 4 * q, scale & 15);
        put_bits(super + 128 + 16 * quarter + row, 2 * q, scale >> 4);
        put(super + 192 + 2 * row, from.d);
        break;
      }
      case WeightScales::dz:
        put(scales + 4 * at, from.f32_scales[half]);
        put(scales + 128 + at, from.zero);
        break;
      case WeightScales::dz64: {
        const std::int64_t entries = place.k_tiles >> place.super_shift;
        put(super + 4 * row, from.f32_scales[0]);
        put(place.tile(place.k_tiles) + 64 * entries + 16 * (k_tile >> place.super_shift) + row, from.zero);
        break;
      }
      case WeightScales::s:
        put(scales + 4 * at, from.f32_scales[half]);
        break;
      case WeightScales::row:
      case WeightScales::none:
        INFERD_CHECK(false);
    }
  }
}

void pack_quantized_row(DType dtype, const std::byte* stored, std::int64_t columns, const RowPlace& place) {
  const DTypeInfo& info = dtype_info(dtype);
  const int parts = info.block_elements / kBlock;
  StoredCodes codes[kMostParts];
  const auto* block = reinterpret_cast<const std::uint8_t*>(stored);
  for (std::int64_t first = 0; first < columns / kBlock; first += parts, block += info.block_bytes) {
    read_stored(dtype, block, codes);
    for (int i = 0; i < parts; ++i) {
      const std::int64_t k_tile = (first + i) / 2;
      const int part = static_cast<int>((first + i) % 2);
      pack_codes(codes[i], part, place.tile(k_tile), place);
      pack_scales(codes[i], k_tile, part, place);
    }
  }
}

/// Signed codes in the order of m16n8k32, and the row's one scale.
void pack_i8_row(DType dtype, const std::byte* stored, std::int64_t columns, const RowPlace& place) {
  const DTypeInfo& info = dtype_info(dtype);
  const int parts = info.block_elements / kBlock;
  StoredCodes codes[kMostParts];
  std::byte* scale = place.super(0) + 4 * (2 * place.g + place.upper);
  std::uint32_t row_scale = 0;  // its bits
  const auto* block = reinterpret_cast<const std::uint8_t*>(stored);
  for (std::int64_t first = 0; first < columns / kBlock; first += parts, block += info.block_bytes) {
    read_stored(dtype, block, codes);
    if (first == 0) {
      put(scale, codes[0].f32_scales[0]);
      row_scale = std::bit_cast<std::uint32_t>(codes[0].f32_scales[0]);
    }
    for (int i = 0; i < parts; ++i) {
      StoredCodes& from = codes[i];
      INFERD_CHECK(from.zero == 128 && std::bit_cast<std::uint32_t>(from.f32_scales[0]) == row_scale);
      for (std::uint8_t& code : from.codes) code ^= 0x80;
      std::byte* chunk = place.tile((first + i) / 2) + 512 * ((first + i) % 2) + 64 * place.g + 4 * place.upper;
      for (int four = 0; four < 8; ++four) {  // columns 4 four …: half four / 4, lane four % 4
        std::memcpy(chunk + 16 * (four % 4) + 8 * (four / 4), from.codes + 4 * four, 4);
      }
    }
  }
}

/// The f16 bits of an integer that a half holds exactly.
int integer_half(int value) {
  if (value == 0) return 0;
  const auto magnitude = static_cast<unsigned>(value < 0 ? -value : value);
  const int exponent = std::bit_width(magnitude) - 1;
  const int half = (exponent + 15) << 10 | (static_cast<int>(magnitude << 10 >> exponent) & 1023);
  INFERD_CHECK(f16_to_f32(static_cast<std::uint16_t>(half)) == static_cast<float>(magnitude));
  return value < 0 ? half | 0x8000 : half;
}

constexpr int kOneSuper = 30;  // more tiles than there are share it

/// Tiles that share a super entry, log2.
int super_shift_of(DType dtype, const WeightLayout& layout) {
  if (layout.scales == WeightScales::row) return kOneSuper;
  if (layout.scales != WeightScales::dz64) return layout.super_shift;
  return std::countr_zero(static_cast<unsigned>(dtype_info(dtype).block_elements / kColumnTile));
}

}  // namespace

WeightFormat weight_format_of(DType dtype) {
  switch (dtype) {
#define INFERD_SAME(name) \
  case DType::name:       \
    return WeightFormat::name;
    INFERD_SAME(f32)
    INFERD_SAME(f16)
    INFERD_SAME(bf16)
    INFERD_SAME(q8_0)
    INFERD_SAME(q4_0)
    INFERD_SAME(q4_1)
    INFERD_SAME(q5_0)
    INFERD_SAME(q5_1)
    INFERD_SAME(q2_k)
    INFERD_SAME(q3_k)
    INFERD_SAME(q4_k)
    INFERD_SAME(q5_k)
    INFERD_SAME(q6_k)
    INFERD_SAME(iq4_nl)
    INFERD_SAME(iq4_xs)
    INFERD_SAME(g2_32)
    INFERD_SAME(g3_32)
    INFERD_SAME(g4_32)
    INFERD_SAME(g4_64)
    INFERD_SAME(g8_32)
#undef INFERD_SAME
    case DType::g2_128:
    case DType::tq1_0:
    case DType::tq2_0:
      return WeightFormat::g2_64;
    case DType::g3_128:
      return WeightFormat::g3_64;
    case DType::g4_128:
      return WeightFormat::g4_64;
    case DType::g8_128:
      return WeightFormat::g8_64;
    case DType::iq2_xs:
    case DType::iq2_s:
    case DType::iq1_m:
      return WeightFormat::t4_16;
    case DType::iq2_xxs:
    case DType::iq3_xxs:
    case DType::iq3_s:
    case DType::iq1_s:
    case DType::mxfp4:
      return WeightFormat::t4_32;
    case DType::nf4:
    case DType::fp4:
      return WeightFormat::h4_64;
    default:
      throw CheckpointError("a matrix of type " + std::string(dtype_info(dtype).name) +
                            " cannot be used in a linear layer");
  }
}

// Row tiles are counted in the second dimension of a grid.
constexpr std::int64_t kMaxRows = std::int64_t{65535} * kRowTile;

WeightPacker::WeightPacker(std::span<const WeightSource> sources, bool gated, bool int8)
    : sources_(sources.begin(), sources.end()), gated_(gated) {
  INFERD_CHECK(!sources_.empty());
  INFERD_CHECK(!gated_ || (sources_.size() == 2 && sources_[0].rows == sources_[1].rows));
  dtype_ = sources_[0].dtype;
  columns_ = sources_[0].columns;
  INFERD_CHECK(!int8 || group_format(dtype_).bits == 8);
  format_ = int8 ? WeightFormat::i8 : weight_format_of(dtype_);
  for (const WeightSource& source : sources_) {
    INFERD_CHECK(source.dtype == dtype_);
    check_weight_source(source, columns_);
    if (source.rows > kMaxRows - rows_) {
      throw MemoryError("a matrix of " + std::to_string(source.rows) + " rows and " + std::to_string(rows_) +
                        " before them: the GPU kernels take at most " + std::to_string(kMaxRows));
    }
    rows_ += source.rows;
  }
  const WeightLayout layout = weight_layout(format_);
  k_tiles_ = padded_columns(columns_) / kColumnTile;
  super_shift_ = super_shift_of(dtype_, layout);
  row_tiles_ = (rows_ + kRowTile - 1) / kRowTile;
  if (gated_) row_tiles_ = (sources_[0].rows + kRowTile / 2 - 1) / (kRowTile / 2);
  const int entry_bytes = layout.super_bytes + (layout.scales == WeightScales::dz64 ? 16 : 0);
  std::int64_t bytes = 0;
  const bool overflows = columns_ > std::numeric_limits<std::int32_t>::max() ||
                         __builtin_mul_overflow(k_tiles_, std::int64_t{layout.tile_bytes()}, &bytes) ||
                         __builtin_add_overflow(bytes, super_entries() * entry_bytes + 31, &bytes);
  row_tile_bytes_ = static_cast<std::size_t>(bytes) / 32 * 32;
  std::size_t total = 0;
  if (overflows || __builtin_mul_overflow(static_cast<std::size_t>(row_tiles_), row_tile_bytes_, &total)) {
    throw MemoryError("a matrix of " + std::to_string(rows_) + " x " + std::to_string(columns_) + " is too large");
  }
}

std::int64_t WeightPacker::super_entries() const { return super_shift_ == kOneSuper ? 1 : k_tiles_ >> super_shift_; }

WeightPlanes WeightPacker::planes(const std::byte* data) const {
  WeightPlanes planes{};
  planes.data = data;
  planes.row_tile_bytes = static_cast<std::int64_t>(row_tile_bytes_);
  planes.k_tiles = static_cast<std::int32_t>(k_tiles_);
  planes.super_shift = super_shift_;
  const WeightTable table = weight_layout(format_).table;
  for (int i = 0; table != WeightTable::none && i < 16; ++i) {
    const auto put_byte = [&](int word, int byte) {
      planes.table[word + i / 4] |= static_cast<std::uint32_t>(byte) << (8 * (i % 4));
    };
    if (table == WeightTable::bytes) {
      put_byte(0, code_table(dtype_)[i] + 128);
    } else {
      const int half = integer_half(wide_table(dtype_).values[i]);
      put_byte(0, half & 255);
      put_byte(4, half >> 8);
    }
  }
  return planes;
}

/// The stored row that becomes row `row` of a row tile; null for padding.
const std::byte* WeightPacker::stored_row(std::int64_t row_tile, int row) const {
  const std::size_t stride = row_bytes(dtype_, columns_);
  if (gated_) {
    const std::int64_t at = row_tile * (kRowTile / 2) + row % 8;
    const WeightSource& source = sources_[row < 8 ? 0 : 1];
    return at < source.rows ? source.data + static_cast<std::size_t>(at) * stride : nullptr;
  }
  std::int64_t at = row_tile * kRowTile + row;
  for (const WeightSource& source : sources_) {
    if (at < source.rows) return source.data + static_cast<std::size_t>(at) * stride;
    at -= source.rows;
  }
  return nullptr;
}

void WeightPacker::pack_row(const std::byte* stored, int row, std::byte* row_tile) const {
  const WeightLayout layout = weight_layout(format_);
  const RowPlace place{layout, row_tile, k_tiles_, super_shift_, row % 8, row / 8};
  if (layout.bits == 32) return pack_plain_row<4>(stored, columns_, place);
  if (layout.bits == 16) return pack_plain_row<2>(stored, columns_, place);
  if (format_ == WeightFormat::i8) return pack_i8_row(dtype_, stored, columns_, place);
  pack_quantized_row(dtype_, stored, columns_, place);
}

void WeightPacker::pack(std::int64_t first, std::int64_t count, std::byte* out) const {
  INFERD_CHECK(first >= 0 && count >= 0 && first + count <= row_tiles_);
  for (std::int64_t t = first; t < first + count; ++t, out += row_tile_bytes_) {
    std::memset(out, 0, row_tile_bytes_);
    for (int row = 0; row < kRowTile; ++row) {
      if (const std::byte* stored = stored_row(t, row)) pack_row(stored, row, out);
    }
  }
}

}  // namespace inferd::cuda
