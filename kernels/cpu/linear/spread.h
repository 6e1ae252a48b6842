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

/// Bytes of a tile of `columns`, a multiple of 256, that is spread to `type`.
constexpr std::int64_t spread_tile_bytes(DType type, std::int64_t columns) {
  return columns / (kGroupBlocks * kBlockColumns) * packed_format(type).group_bytes(kGroupBlocks);
}

/// Spreads a tile of 16 stored rows. out: spread_tile_bytes(spread_type(dtype), columns), aligned to 64.
void spread_tile(DType dtype, const std::byte* tile, std::int64_t columns, std::byte* out);

}  // namespace inferd
