// Slicing stored matrices.
#include "kernels/weight_slice.h"

#include <cstring>
#include <string>

#include "base/errors.h"

namespace inferd {
namespace {

std::string describe(const WeightSource& source) {
  return "a " + std::string(dtype_info(source.dtype).name) + " matrix of " + std::to_string(source.rows) + " x " +
         std::to_string(source.columns);
}

/// Blocks that follow one another in a row.
struct Run {
  std::int64_t first;
  std::int64_t count;
};

[[noreturn]] void refuse_blocks(const WeightSource& source, std::int64_t width, int ranks) {
  throw ConfigError("tensor_parallel: " + describe(source) + " cannot be divided between " + std::to_string(ranks) +
                    " GPUs by its columns: its blocks of " + std::to_string(dtype_info(source.dtype).block_elements) +
                    (source.column_order == nullptr
                         ? " columns do not end where a part of " + std::to_string(width) + " does"
                         : " columns, stored in an order of their own, have inputs of more than one part"));
}

/// The blocks of a row that belong to a rank, in their order.
std::vector<Run> runs_of(const WeightSource& source, int rank, int ranks) {
  const std::int64_t block = dtype_info(source.dtype).block_elements, width = source.columns / ranks;
  const auto owner = [&](std::int64_t i) {
    return (source.column_order == nullptr ? i : source.column_order[i]) / width;
  };
  std::vector<Run> runs;
  for (std::int64_t first = 0; first < source.columns; first += block) {
    for (std::int64_t i = first + 1; i < first + block; ++i) {
      if (owner(i) != owner(first)) refuse_blocks(source, width, ranks);
    }
    if (owner(first) != rank) continue;
    if (runs.empty() || runs.back().first + runs.back().count != first / block) runs.push_back({first / block, 0});
    ++runs.back().count;
  }
  return runs;
}

void require_even(const WeightSource& source, std::int64_t count, const char* what, int ranks) {
  if (count % ranks == 0) return;
  throw ConfigError("tensor_parallel: " + describe(source) + ": its " + what + " are not a multiple of " +
                    std::to_string(ranks) + " GPUs");
}

}  // namespace

WeightSlice slice_rows(const WeightSource& source, int rank, int ranks) {
  require_even(source, source.rows, "rows", ranks);
  WeightSlice slice{source, {}, {}};
  slice.source.rows = source.rows / ranks;
  slice.source.data += static_cast<std::size_t>(slice.source.rows * rank) * row_bytes(source.dtype, source.columns);
  return slice;
}

void check_slice_columns(const WeightSource& source, int ranks) {
  require_even(source, source.columns, "columns", ranks);
  runs_of(source, 0, ranks);  // looks at the blocks of all
}

WeightSlice slice_columns(const WeightSource& source, int rank, int ranks) {
  require_even(source, source.columns, "columns", ranks);
  const std::vector<Run> runs = runs_of(source, rank, ranks);
  const std::int64_t block = dtype_info(source.dtype).block_elements, width = source.columns / ranks;
  WeightSlice slice;
  slice.data.resize(static_cast<std::size_t>(source.rows) * row_bytes(source.dtype, width));
  std::byte* to = slice.data.data();
  for (std::int64_t row = 0; row < source.rows; ++row) {
    const std::byte* from = source.data + static_cast<std::size_t>(row) * row_bytes(source.dtype, source.columns);
    for (const Run& run : runs) {
      const std::size_t bytes = row_bytes(source.dtype, run.count * block);
      std::memcpy(to, from + row_bytes(source.dtype, run.first * block), bytes);
      to += bytes;
    }
  }
  for (const Run& run : runs) {
    if (source.column_order == nullptr) break;
    for (std::int64_t i = run.first * block; i < (run.first + run.count) * block; ++i) {
      slice.column_order.push_back(source.column_order[i] - static_cast<std::int32_t>(rank * width));
    }
  }
  slice.source = {slice.data.data(),
                  source.dtype,
                  source.rows,
                  width,
                  slice.column_order.empty() ? nullptr : slice.column_order.data(),
                  source.int8_activations};
  return slice;
}

}  // namespace inferd
