// Tiles of types that are kept as stored, taken apart to bytes that the kernels of 8-bit codes multiply.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear/packed_format.h"

namespace inferd {

/// What a type that is kept as stored is spread to: kSpread32 or kSpread16, whose values are its own exactly.
constexpr DType spread_type(DType dtype) {
  return dtype == DType::iq2_xs || dtype == DType::iq2_s || dtype == DType::iq1_m ? kSpread16 : kSpread32;
}

inline constexpr int kGroupColumns = kGroupBlocks * kBlockColumns;

/// Bytes of a tile of `columns`, a multiple of 256, that is spread to `type`.
constexpr std::int64_t spread_tile_bytes(DType type, std::int64_t columns) {
  return columns / kGroupColumns * packed_format(type).group_bytes(kGroupBlocks);
}

/// What the bytes of spread tiles are looked up in.
struct SpreadTables {
  // points of the lattices, magnitudes as bytes
  std::uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024];
  std::uint32_t iq3_xxs[256], iq3_s[512];
  std::uint64_t iq1[2048];   // eighths, plus 127: adding 0 or 2 for delta and flipping the top bit makes them signed
  std::uint64_t signs[256];  // a byte of ones for every bit that is set
  std::uint64_t even_signs[128];  // likewise, with an eighth bit that makes their number even
};

/// Made at the first call. Thread-safe.
const SpreadTables& spread_tables();

}  // namespace inferd
