// What crosses from the linear layers' driver into the kernels compiled per instruction level: plain data only.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/dtype.h"
#include "kernels/ops.h"

namespace inferd {

inline constexpr int kUnitColumns = 32;      // output columns computed together: two tiles, one activation block
inline constexpr int kTokenChunk = 16;       // tokens that tasks are cut at multiples of
inline constexpr int kRowAlign = 4;          // a call's first row is at a multiple of it
inline constexpr int kActivationGroup = 16;  // rows whose activation blocks are interleaved
inline constexpr int kBlockColumnsOfActivation = 32;  // activations of one scale

inline constexpr int kMaxColumnOrders = 3;  // of one weight

/// Scratch for a column: of a widened tile 16, of the four spread tiles that a gated unit has 4 * 5.
inline constexpr int kScratchFloats = 20;

// Forms of Activation (bits of Activation::forms).
inline constexpr std::uint32_t kFormF32 = 1;
inline constexpr std::uint32_t kFormQ8 = 2;

/// 32 activations as signed bytes. x ≈ scale * quants; exact zero is kept, and an infinity or NaN makes scale NaN.
struct ActivationBlock {
  std::int8_t quants[32];
  float scale;
  float sum;                   // scale * sum of quants
  std::int32_t minus_sums[2];  // of quants, as the level's kernels want them (level/dot.h)
};
static_assert(sizeof(ActivationBlock) == 48);

/// An Activation taken apart. Row r of the int8 form: block b is at blocks[((r / 16) * kblocks + b) * 16 + r % 16], and
/// there is memory for whole groups of 16 rows.
struct ActivationView {
  float* f32 = nullptr;  // [rows, f32_stride]
  std::int64_t f32_stride = 0;
  ActivationBlock* blocks = nullptr;
  std::int64_t kblocks = 0;
  std::int64_t columns = 0;
};

/// The part of a 16-row output tile that one packed tile provides.
struct TilePiece {
  const std::byte* tile;
  DType dtype;
  std::uint8_t first_lane;  // lanes [first_lane, last_lane) are this piece's
  std::uint8_t last_lane;
  std::uint8_t order = 0;  // 0: columns in their natural order, else the input is LinearJob::reordered[order - 1]
};

/// One linear layer call.
struct LinearJob {
  const TilePiece* pieces;
  const std::uint32_t* piece_starts;  // [tiles + 1]
  std::int64_t up_tiles;              // gated: tile of up rows = tile of gate rows + up_tiles
  std::int64_t in_columns;
  std::int64_t out_columns;  // after the epilogue
  bool exact;                // quantised weights are widened and multiplied in f32
  ActivationView x;
  const float* addend;  // or nullptr; [T, rows of the weight], added before the bias
  std::int64_t addend_stride;
  const ActivationView* reordered;  // x with its columns in the orders that weights were stored in
  const float* bias;                // or nullptr; gated: [gate; up]
  Epilogue epilogue;
  const float* residual;  // or nullptr
  std::int64_t residual_stride;
  float* out;  // or nullptr
  std::int64_t out_stride;
  ActivationView out_activation;  // used if it has any form
  /// Widens a packed tile to [columns][16] f32; for `exact`.
  void (*decode_tile)(DType dtype, const std::byte* tile, std::int64_t columns, float* out);
};

/// The entry points of one instruction level.
struct LinearKernels {
  /// Output columns [32 * unit_begin, 32 * unit_end) of tokens [token_begin, token_end); token_begin is a multiple
  /// of kRowAlign. decode_scratch: kScratchFloats * in_columns floats of this worker, if any tile is widened or spread.
  void (*run)(const LinearJob& job, std::int64_t unit_begin, std::int64_t unit_end, std::int64_t token_begin,
              std::int64_t token_end, float* decode_scratch);
  /// Writes one row of an activation in the forms the view has.
  void (*store_row)(const ActivationView& view, std::int64_t row, const float* x);
};

/// The kernels of `level`, which this build must contain.
const LinearKernels& linear_kernels(CpuLevel level);

}  // namespace inferd
