// Packing of stored rows into tiles, and decoding them again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear/packed_format.h"

namespace inferd {

/// Types that can be packed: F32, F16, BF16 and the quantised ones.
bool is_packable(DType dtype);

/// Bytes of a packed tile of 16 rows, a multiple of 64. columns: a multiple of the type's block.
/// Throws MemoryError if the count does not fit.
std::size_t packed_tile_bytes(DType dtype, std::int64_t columns);

/// Writes `count` stored rows into lanes first_lane … of a zero-filled tile. `rows` needs no alignment. Thread-safe for
/// different tiles.
void pack_rows(DType dtype, const std::byte* rows, std::int64_t columns, int first_lane, int count, std::byte* tile);

/// One lane of a tile as f32, bit-equal to dequantize_row of the stored row.
void decode_lane(DType dtype, const std::byte* tile, std::int64_t columns, int lane, float* out);

/// All lanes: out [columns][16].
void decode_tile(DType dtype, const std::byte* tile, std::int64_t columns, float* out);

}  // namespace inferd
