// Packing and decoding of tiles. Layouts: packed_format.h (packed), quant_formats.cpp (stored).
#include "kernels/cpu/linear/pack.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cpu/linear/stored_blocks.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

int plain_bytes(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    default:
      return 0;
  }
}

void write_codes(int bits, const Codes codes, int lane, std::uint8_t* payload) {
  for (int i = 0; i < 4; ++i) {
    std::uint8_t* at = payload + 4 * lane + i;
    const Bytes c = codes + i;
    if (bits == 8) {
      for (int g = 0; g < 8; ++g) at[64 * g] = c[4 * g];
      continue;
    }
    if (bits >= 4) {
      for (int j = 0; j < 4; ++j) {
        at[64 * j] = static_cast<std::uint8_t>((c[4 * j] & 15) | ((c[16 + 4 * j] & 15) << 4));
      }
      if (bits == 5) {
        int upper = 0;
        for (int g = 0; g < 8; ++g) upper |= (c[4 * g] >> 4) << g;
        at[256] = static_cast<std::uint8_t>(upper);
      }
      if (bits == 6) {
        for (int h = 0; h < 2; ++h) {
          int upper = 0;
          for (int g = 0; g < 4; ++g) upper |= (c[16 * h + 4 * g] >> 4) << (2 * g);
          at[256 + 64 * h] = static_cast<std::uint8_t>(upper);
        }
      }
      continue;
    }
    for (int h = 0; h < 2; ++h) {
      int low = 0;
      for (int g = 0; g < 4; ++g) low |= (c[16 * h + 4 * g] & 3) << (2 * g);
      at[64 * h] = static_cast<std::uint8_t>(low);
    }
    if (bits == 3) {
      int upper = 0;
      for (int g = 0; g < 8; ++g) upper |= (c[4 * g] >> 2) << g;
      at[128] = static_cast<std::uint8_t>(upper);
    }
  }
}

void read_packed_codes(int bits, Bytes payload, int lane, Codes codes) {
  for (int k = 0; k < kBlockColumns; ++k) {
    const int g = k / 4;
    const Bytes at = payload + 4 * lane + k % 4;
    int code;
    if (bits == 8) {
      code = at[64 * g];
    } else if (bits >= 4) {
      code = (at[64 * (g % 4)] >> (4 * (g / 4))) & 15;
      if (bits == 5) code |= ((at[256] >> g) & 1) << 4;
      if (bits == 6) code |= ((at[256 + 64 * (g / 4)] >> (2 * (g % 4))) & 3) << 4;
    } else {
      code = (at[64 * (g / 4)] >> (2 * (g % 4))) & 3;
      if (bits == 3) code |= ((at[128] >> g) & 1) << 2;
    }
    codes[k] = static_cast<std::uint8_t>(code);
  }
}

/// Where the parts of one block are in a tile.
struct BlockPlace {
  std::size_t payload;
  std::size_t header;
  std::size_t entry;
  int index;  // in its group
};

BlockPlace block_place(const PackedFormat& format, std::int64_t blocks, std::int64_t block) {
  const std::int64_t group = block / kGroupBlocks;
  const int index = static_cast<int>(block % kGroupBlocks);
  const int in_group = static_cast<int>(std::min<std::int64_t>(kGroupBlocks, blocks - group * kGroupBlocks));
  const std::size_t base = static_cast<std::size_t>(group) * static_cast<std::size_t>(format.group_bytes(kGroupBlocks));
  const std::size_t header = base + static_cast<std::size_t>(in_group * format.payload_bytes);
  return {base + static_cast<std::size_t>(index * format.payload_bytes), header,
          header + static_cast<std::size_t>(format.header_bytes + index / format.scale_blocks * format.scale_blocks *
                                                                      format.block_scale_bytes),
          index};
}

float half_at(Bytes values, int lane) {
  std::uint16_t half;
  std::memcpy(&half, values + 2 * lane, sizeof half);
  return f16_to_f32(half);
}

/// What a code stands for, before its scale.
float code_value(const PackedFormat& format, int code) {
  switch (format.table) {
    case CodeTable::iq4:
      return static_cast<float>(kIq4Values[code]);
    case CodeTable::mxfp4:
      return static_cast<float>(kMxfp4Values[code]);
    case CodeTable::nf4:
      return static_cast<float>(kNf4Table.values[code]);
    case CodeTable::fp4:
      return static_cast<float>(kFp4Table.values[code]);
    case CodeTable::none:
      break;
  }
  if (format.bits == 8) return static_cast<float>(static_cast<std::int8_t>(code));
  return static_cast<float>(code - (format.zero_shift >= 0 ? 1 << format.zero_shift : 0));
}

/// The operations and their order are those of dequantize_row, so the floats are the same bits.
void widen_codes(const PackedFormat& format, const Codes codes, Bytes tile, const BlockPlace& place, int lane,
                 float* out) {
  const Bytes header = tile + place.header, entry = tile + place.entry;
  for (int k = 0; k < kBlockColumns; ++k) {
    const int h = k / 16;
    const float code = code_value(format, codes[k]);
    switch (format.scheme) {
      case ScaleScheme::d:
        out[k] = code * half_at(entry, lane);
        break;
      case ScaleScheme::dm:
        out[k] = code * half_at(entry, lane) + half_at(entry + 32, lane);
        break;
      case ScaleScheme::k: {
        const SixBits both = read_six_bits(header, entry, place.index, lane);
        const float step = half_at(header, lane) * static_cast<float>(both.scale);
        const float offset = half_at(header + 32, lane) * static_cast<float>(both.minimum);
        out[k] = step * code - offset;
        break;
      }
      case ScaleScheme::k16s:
        out[k] = half_at(header, lane) * static_cast<float>(static_cast<std::int8_t>(entry[16 * h + lane])) * code;
        break;
      case ScaleScheme::k16dm: {
        const int both = entry[16 * h + lane];
        const float step = half_at(header, lane) * static_cast<float>(both & 15);
        const float offset = half_at(header + 32, lane) * static_cast<float>(both >> 4);
        out[k] = step * code - offset;
        break;
      }
      case ScaleScheme::k32s:
        out[k] = half_at(header, lane) * static_cast<float>(static_cast<std::int8_t>(entry[lane])) * code;
        break;
      case ScaleScheme::dz: {
        float d;
        std::memcpy(&d, entry + 4 * lane, sizeof d);
        out[k] = d * (code - static_cast<float>(entry[64 + lane] - (format.bits == 8 ? 128 : 0)));
        break;
      }
      case ScaleScheme::s: {
        float d;
        std::memcpy(&d, entry + 4 * lane, sizeof d);
        out[k] = d * code;
        break;
      }
      case ScaleScheme::e8:
        out[k] = half_of_e8m0(entry[lane]) * code;
        break;
      case ScaleScheme::super_d:
        out[k] = half_at(header, lane) * code;
        break;
      case ScaleScheme::s16:
      case ScaleScheme::none:
        INFERD_CHECK(false);
    }
  }
}

void decode_stored_tile(DType dtype, const std::byte* tile, std::int64_t columns, float* out) {
  constexpr int kMostElements = 256;  // of a block
  const DTypeInfo& info = dtype_info(dtype);
  INFERD_CHECK(info.block_elements <= kMostElements);
  float values[kMostElements];
  for (int lane = 0; lane < kTileRows; ++lane) {
    for (std::int64_t k = 0; k < columns; k += info.block_elements, tile += info.block_bytes) {
      dequantize_row(dtype, tile, values, info.block_elements);
      for (int i = 0; i < info.block_elements; ++i) out[(k + i) * kTileRows + lane] = values[i];
    }
  }
}

float plain_value(DType dtype, const std::byte* at) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return dtype == DType::f16 ? f16_to_f32(half) : bf16_to_f32(half);
}

}  // namespace

bool is_packable(DType dtype) {
  return plain_bytes(dtype) > 0 || packed_format(dtype).payload_bytes > 0 || is_kept_as_stored(dtype);
}

std::size_t packed_tile_bytes(DType dtype, std::int64_t columns) {
  INFERD_CHECK(is_packable(dtype) && columns > 0 && columns % dtype_info(dtype).block_elements == 0);
  if (columns > (std::int64_t{1} << 40))
    throw MemoryError("a matrix of " + std::to_string(columns) + " columns is too large");
  if (is_kept_as_stored(dtype)) return (row_bytes(dtype, columns) * kTileRows + 63) / 64 * 64;
  std::size_t bytes = static_cast<std::size_t>(columns) * kTileRows * static_cast<std::size_t>(plain_bytes(dtype));
  if (plain_bytes(dtype) == 0) {
    const PackedFormat format = packed_format(dtype);
    const std::int64_t blocks = columns / kBlockColumns;
    const int rest = static_cast<int>(blocks % kGroupBlocks);
    bytes =
        static_cast<std::size_t>(blocks / kGroupBlocks) * static_cast<std::size_t>(format.group_bytes(kGroupBlocks));
    if (rest > 0) bytes += static_cast<std::size_t>(format.group_bytes(rest));
  }
  return (bytes + 63) / 64 * 64;
}

void pack_rows(DType dtype, const std::byte* rows, std::int64_t columns, int first_lane, int count, std::byte* tile) {
  const std::size_t stored_bytes = row_bytes(dtype, columns);
  if (is_kept_as_stored(dtype)) {
    std::memcpy(tile + static_cast<std::size_t>(first_lane) * stored_bytes, rows,
                static_cast<std::size_t>(count) * stored_bytes);
    return;
  }
  if (const auto size = static_cast<std::size_t>(plain_bytes(dtype)); size > 0) {
    for (int r = 0; r < count; ++r) {
      const std::byte* from = rows + static_cast<std::size_t>(r) * stored_bytes;
      std::byte* to = tile + static_cast<std::size_t>(first_lane + r) * size;
      for (std::int64_t k = 0; k < columns; ++k, from += size, to += kTileRows * size) std::memcpy(to, from, size);
    }
    return;
  }
  const PackedFormat format = packed_format(dtype);
  const DTypeInfo& info = dtype_info(dtype);
  const std::int64_t blocks = columns / kBlockColumns;
  const int subs = info.block_elements / kBlockColumns;
  auto* out = reinterpret_cast<std::uint8_t*>(tile);
  for (int r = 0; r < count; ++r) {
    const int lane = first_lane + r;
    Bytes row = reinterpret_cast<Bytes>(rows) + static_cast<std::size_t>(r) * stored_bytes;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const Bytes block = row + static_cast<std::size_t>(b / subs) * static_cast<std::size_t>(info.block_bytes);
      const int sub = static_cast<int>(b % subs);
      Codes codes;
      read_codes(dtype, block, sub, codes);
      const BlockPlace place = block_place(format, blocks, b);
      write_codes(format.bits, codes, lane, out + place.payload);
      write_scales(dtype, block, sub, lane, out + place.header, out + place.entry);
    }
  }
}

void decode_lane(DType dtype, const std::byte* tile, std::int64_t columns, int lane, float* out) {
  if (is_kept_as_stored(dtype)) {
    return dequantize_row(dtype, tile + static_cast<std::size_t>(lane) * row_bytes(dtype, columns), out, columns);
  }
  if (const auto size = static_cast<std::size_t>(plain_bytes(dtype)); size > 0) {
    const std::byte* from = tile + static_cast<std::size_t>(lane) * size;
    for (std::int64_t k = 0; k < columns; ++k, from += kTileRows * size) out[k] = plain_value(dtype, from);
    return;
  }
  const PackedFormat format = packed_format(dtype);
  const auto* bytes = reinterpret_cast<Bytes>(tile);
  const std::int64_t blocks = columns / kBlockColumns;
  for (std::int64_t b = 0; b < blocks; ++b) {
    Codes codes;
    const BlockPlace place = block_place(format, blocks, b);
    read_packed_codes(format.bits, bytes + place.payload, lane, codes);
    widen_codes(format, codes, bytes, place, lane, out + b * kBlockColumns);
  }
}

void decode_tile(DType dtype, const std::byte* tile, std::int64_t columns, float* out) {
  if (is_kept_as_stored(dtype)) return decode_stored_tile(dtype, tile, columns, out);
  if (plain_bytes(dtype) > 0) {
    for (std::int64_t i = 0; i < columns * kTileRows; ++i) out[i] = plain_value(dtype, tile + i * plain_bytes(dtype));
    return;
  }
  const PackedFormat format = packed_format(dtype);
  const auto* bytes = reinterpret_cast<Bytes>(tile);
  const std::int64_t blocks = columns / kBlockColumns;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const BlockPlace place = block_place(format, blocks, b);
    float* to = out + b * kBlockColumns * kTileRows;
    for (int lane = 0; lane < kTileRows; ++lane) {
      Codes codes;
      float values[kBlockColumns];
      read_packed_codes(format.bits, bytes + place.payload, lane, codes);
      widen_codes(format, codes, bytes, place, lane, values);
      for (int k = 0; k < kBlockColumns; ++k) to[k * kTileRows + lane] = values[k];
    }
  }
}

}  // namespace inferd
