// CpuWeight: a matrix packed into tiles for the CPU's linear kernels.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/linear/linear_kernels.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/weight_memory.h"

namespace inferd {

/// One or more stored matrices, stacked by rows. Immutable once made; thread-safe to read.
class CpuWeight final : public Weight {
 public:
  /// Packs on `pool`, into a piece of `memory`. Throws CheckpointError for a type or shape that cannot be packed,
  /// MemoryError.
  CpuWeight(std::span<const WeightSource> parts, const WeightOptions& options, ActivationMode mode, ThreadPool& pool,
            WeightMemory& memory);

  std::int64_t rows() const override { return rows_; }
  std::int64_t columns() const override { return columns_; }
  std::size_t bytes() const override { return memory_.bytes; }
  std::uint32_t activation_forms() const override { return forms_; }

  bool gated() const { return gated_; }
  /// Quantised types are multiplied in f32.
  bool exact() const { return exact_; }
  /// Some tiles are widened or spread before they are multiplied: the driver needs scratch for that.
  bool widens() const { return widens_; }
  const TilePiece* pieces() const { return pieces_.data(); }
  const std::uint32_t* piece_starts() const { return piece_starts_.data(); }
  std::int64_t up_tiles() const { return up_tiles_; }
  /// The orders of columns that parts were stored in, [columns] each; at most kMaxColumnOrders.
  const std::vector<std::vector<std::int32_t>>& column_orders() const { return orders_; }
  /// The form in which the reordered inputs are read.
  std::uint32_t reordered_form() const { return exact_ ? kFormF32 : kFormQ8; }
  /// Row `row` as f32, bit-equal to dequantize_row. Not for gated weights.
  void decode_row(std::int64_t row, float* out) const;

 private:
  struct PlannedPiece;
  std::uint8_t take_order(const std::int32_t* column_order);
  std::vector<PlannedPiece> plan(std::span<const WeightSource> parts);
  std::size_t lay_out(std::vector<PlannedPiece>& planned);
  void fill_tables(const std::vector<PlannedPiece>& planned);

  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::uint32_t forms_ = 0;
  bool gated_ = false;
  bool exact_ = false;
  bool widens_ = false;
  std::int64_t up_tiles_ = 0;
  WeightMemory::Piece memory_;
  std::vector<TilePiece> pieces_;
  std::vector<std::vector<std::int32_t>> orders_;
  std::vector<std::uint32_t> piece_starts_;
};

}  // namespace inferd
