// WeightSlice: what one of several devices gets of a stored matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace inferd {

/// A matrix that is part of another; `source` points into that one or into what the slice owns.
struct WeightSlice {
  WeightSource source;
  std::vector<std::byte> data;
  std::vector<std::int32_t> column_order;
};

/// Rows [rank * rows / ranks, (rank + 1) * rows / ranks). Throws ConfigError if they cannot be divided evenly.
WeightSlice slice_rows(const WeightSource& source, int rank, int ranks);

/// What multiplies inputs [rank * columns / ranks, (rank + 1) * columns / ranks), whole blocks of the matrix's type in
/// their stored order. Throws ConfigError if a block has inputs of two ranks, or they cannot be divided evenly.
WeightSlice slice_columns(const WeightSource& source, int rank, int ranks);

/// Throws what slice_columns would throw; `data` is not read.
void check_slice_columns(const WeightSource& source, int ranks);

}  // namespace inferd
