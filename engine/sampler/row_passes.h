// RowPasses: the loops over whole rows of logits, compiled for each instruction level with the same bits as their
// result.
#pragma once

#include <cstddef>

namespace inferd {

constexpr std::size_t kSumBlock = 1024;  // elements whose weights are summed in f32 before f64 takes over

/// One table per level. Sums run in a fixed order (8 lanes inside blocks of kSumBlock, then f64) and no product is
/// fused with a sum, so all levels agree bit for bit.
struct RowPasses {
  /// The largest of `count` elements (-inf if none). False if one is NaN or infinite; then *max means nothing.
  bool (*scan)(const float* row, std::size_t count, float* max);
  /// The largest element; none may be NaN, -inf may.
  float (*max)(const float* row, std::size_t count);
  /// See exp_weights in row_math.h; weights and block_sums may be null.
  double (*exp_weights)(const float* row, std::size_t count, float max, float temperature, float* weights,
                        double* block_sums);
  /// The first index from `from` on whose element is above `threshold`; count if there is none.
  std::size_t (*next_above)(const float* row, std::size_t count, std::size_t from, float threshold);
};

/// The table for this machine.
const RowPasses& row_passes();

}  // namespace inferd
