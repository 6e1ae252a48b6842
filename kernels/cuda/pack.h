// Packing of stored matrices into the row tiles of weight_format.h, in chunks of any number of row tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

/// What a stored type becomes. Throws CheckpointError naming a type that the kernels cannot read.
WeightFormat weight_format_of(DType dtype);

/// Packs matrices of one type, stacked by rows or, gated, a gate and an up matrix interleaved. Views of the sources;
/// thread-safe.
class WeightPacker {
 public:
  /// Throws CheckpointError for a type that cannot be packed or a shape that the type cannot have, MemoryError.
  /// `int8`: as WeightFormat::i8, sources being made for int8 activations (WeightSource).
  WeightPacker(std::span<const WeightSource> sources, bool gated, bool int8 = false);

  WeightFormat format() const { return format_; }
  bool gated() const { return gated_; }
  std::int64_t rows() const { return rows_; }  // of all sources
  std::int64_t row_tiles() const { return row_tiles_; }
  std::size_t row_tile_bytes() const { return row_tile_bytes_; }
  std::size_t bytes() const { return static_cast<std::size_t>(row_tiles_) * row_tile_bytes_; }
  /// The packed matrix as kernels take it, once it lies at `data`, a multiple of 256.
  WeightPlanes planes(const std::byte* data) const;

  /// Writes row tiles [first, first + count) one after another; `out`, of any content, is a multiple of 16.
  void pack(std::int64_t first, std::int64_t count, std::byte* out) const;

 private:
  std::int64_t super_entries() const;  // of a row tile
  const std::byte* stored_row(std::int64_t row_tile, int row) const;
  void pack_row(const std::byte* stored, int row, std::byte* row_tile) const;

  std::vector<WeightSource> sources_;
  bool gated_;
  DType dtype_;
  WeightFormat format_;
  std::int64_t rows_ = 0;
  std::int64_t columns_;
  std::int64_t k_tiles_;
  int super_shift_;
  std::int64_t row_tiles_ = 0;
  std::size_t row_tile_bytes_ = 0;
};

}  // namespace inferd::cuda
