// Planning and packing of a CpuWeight.
#include "kernels/cpu/linear/cpu_weight.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cpu/linear/pack.h"

namespace inferd {

/// Rows of one source that meet one output tile.
struct CpuWeight::PlannedPiece {
  const WeightSource* source;
  std::int64_t output_tile;
  std::int64_t first_row;  // of the source
  int first_lane;
  int count;
  std::uint8_t order;      // see TilePiece
  std::size_t offset = 0;  // of its packed tile in memory_
};

namespace {

std::int64_t tiles_of(std::int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

void check_source(const WeightSource& source, std::int64_t columns) {
  if (!is_packable(source.dtype)) {
    throw CheckpointError("a matrix of type " + std::string(dtype_info(source.dtype).name) +
                          " cannot be used in a linear layer");
  }
  check_weight_source(source, columns);
}

}  // namespace

CpuWeight::CpuWeight(std::span<const WeightSource> parts, const WeightOptions& options, ActivationMode mode,
                     ThreadPool& pool, WeightMemory& memory)
    : gated_(options.gated) {
  INFERD_CHECK(!parts.empty());
  INFERD_CHECK(!gated_ || (parts.size() == 2 && parts[0].rows == parts[1].rows && !options.also_embedding));
  columns_ = parts[0].columns;
  for (const WeightSource& part : parts) {
    check_source(part, columns_);
    if (part.rows > std::numeric_limits<std::int32_t>::max() - rows_) throw MemoryError("a matrix has too many rows");
    rows_ += part.rows;
    const bool quantized = dtype_info(part.dtype).quantized;
    const bool as_stored = is_kept_as_stored(part.dtype);
    widens_ = widens_ || as_stored;
    const bool reordered = part.column_order != nullptr;  // gathered from the f32 form
    if (reordered && (!quantized || as_stored || options.also_embedding)) {
      throw CheckpointError("columns of plain or embedding matrices cannot be in an order of their own");
    }
    forms_ |= quantized && mode == ActivationMode::automatic && !reordered ? kFormQ8 : kFormF32;
  }
  exact_ = mode == ActivationMode::f32;
  widens_ = widens_ || exact_;
  if (gated_) up_tiles_ = tiles_of(parts[0].rows);
  std::vector<PlannedPiece> planned = plan(parts);
  memory_ = memory.allocate(lay_out(planned));
  fill_tables(planned);
  pool.run(static_cast<std::int64_t>(planned.size()), [&](std::int64_t task, int) {
    const PlannedPiece& piece = planned[static_cast<std::size_t>(task)];
    const std::byte* rows =
        piece.source->data + static_cast<std::size_t>(piece.first_row) * row_bytes(piece.source->dtype, columns_);
    pack_rows(piece.source->dtype, rows, columns_, piece.first_lane, piece.count, memory_.data + piece.offset);
  });
}

/// The TilePiece::order of a part.
std::uint8_t CpuWeight::take_order(const std::int32_t* column_order) {
  if (column_order == nullptr) return 0;
  std::vector<std::int32_t> order(column_order, column_order + columns_);
  auto found = std::find(orders_.begin(), orders_.end(), order);
  if (found == orders_.end()) found = orders_.insert(found, std::move(order));
  if (orders_.size() > kMaxColumnOrders) throw CheckpointError("matrices of one layer have too many column orders");
  return static_cast<std::uint8_t>(found - orders_.begin() + 1);
}

/// Pieces in the order of their output tiles. Gate and up rows start a tile each; other parts follow each other.
std::vector<CpuWeight::PlannedPiece> CpuWeight::plan(std::span<const WeightSource> parts) {
  std::vector<PlannedPiece> planned;
  std::int64_t at = 0;  // output row, in lanes of the tile grid
  for (const WeightSource& part : parts) {
    if (gated_) at = tiles_of(at) * kTileRows;
    const std::uint8_t order = take_order(part.column_order);
    std::int64_t row = 0;
    while (row < part.rows) {
      const int lane = static_cast<int>(at % kTileRows);
      const int count = static_cast<int>(std::min<std::int64_t>(kTileRows - lane, part.rows - row));
      planned.push_back({&part, at / kTileRows, row, lane, count, order});
      row += count;
      at += count;
    }
  }
  return planned;
}

/// Gives every piece its place (gate and up tiles of a unit side by side, as they are read). Returns the bytes of all.
std::size_t CpuWeight::lay_out(std::vector<PlannedPiece>& planned) {
  const auto tiles = static_cast<std::size_t>(planned.back().output_tile + 1);
  piece_starts_.assign(tiles + 1, 0);
  for (const PlannedPiece& piece : planned) ++piece_starts_[static_cast<std::size_t>(piece.output_tile) + 1];
  for (std::size_t t = 0; t < tiles; ++t) piece_starts_[t + 1] += piece_starts_[t];
  std::vector<std::size_t> order(planned.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  if (gated_) {  // one piece a tile
    constexpr std::int64_t kUnitTiles = kUnitColumns / kTileRows;
    const auto key = [&](std::size_t i) {
      const std::int64_t tile = planned[i].output_tile;
      const bool up = tile >= up_tiles_;
      const std::int64_t local = up ? tile - up_tiles_ : tile;
      return (local / kUnitTiles * 2 + (up ? 1 : 0)) * kUnitTiles + local % kUnitTiles;
    };
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
  }
  std::size_t total = 0;
  for (std::size_t i : order) {
    planned[i].offset = total;
    if (__builtin_add_overflow(total, packed_tile_bytes(planned[i].source->dtype, columns_), &total)) {
      throw MemoryError("a matrix of " + std::to_string(rows_) + " x " + std::to_string(columns_) + " is too large");
    }
  }
  return total;
}

void CpuWeight::fill_tables(const std::vector<PlannedPiece>& planned) {
  pieces_.reserve(planned.size());
  for (const PlannedPiece& piece : planned) {
    pieces_.push_back({memory_.data + piece.offset, piece.source->dtype, static_cast<std::uint8_t>(piece.first_lane),
                       static_cast<std::uint8_t>(piece.first_lane + piece.count), piece.order});
  }
}

void CpuWeight::decode_row(std::int64_t row, float* out) const {
  INFERD_CHECK(!gated_ && row >= 0 && row < rows_);
  const auto tile = static_cast<std::size_t>(row / kTileRows);
  const int lane = static_cast<int>(row % kTileRows);
  for (std::uint32_t p = piece_starts_[tile]; p < piece_starts_[tile + 1]; ++p) {
    const TilePiece& piece = pieces_[p];
    if (lane >= piece.first_lane && lane < piece.last_lane) {
      return decode_lane(piece.dtype, piece.tile, columns_, lane, out);
    }
  }
  INFERD_CHECK(false);
}

}  // namespace inferd
