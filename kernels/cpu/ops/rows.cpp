// Gathering rows, and pooling them to one vector per sequence, on the CPU.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/ops/for_rows.h"

namespace inferd {

void cpu_gather_rows(CpuContext& context, const GatherRowsArgs& args) {
  const std::size_t bytes = static_cast<std::size_t>(args.x.dim(1)) * sizeof(float);
  for_rows(context.pool, args.rows.dim(0), [&](std::int64_t i, int) {
    const std::int64_t row = args.rows.as<const std::int32_t>()[i];
    std::memcpy(args.out.as<float>() + i * args.out.row_stride, args.x.as<const float>() + row * args.x.row_stride,
                bytes);
  });
}

namespace {

/// Mean or maximum over rows [begin, end), column by column, rows in ascending order; sums in f64.
void pool_columns(const PoolArgs& args, std::int64_t begin, std::int64_t end, float* out) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t columns = args.x.dim(1);
  for (std::int64_t first = 0; first < columns; first += kColumns) {
    const std::int64_t count = std::min(kColumns, columns - first);
    double sums[kColumns] = {};
    float maxima[kColumns];
    std::fill(maxima, maxima + kColumns, -INFINITY);
    for (std::int64_t row = begin; row < end; ++row) {
      const float* x = args.x.as<const float>() + row * args.x.row_stride + first;
      for (std::int64_t i = 0; i < count; ++i) {
        sums[i] += static_cast<double>(x[i]);
        maxima[i] = x[i] > maxima[i] || std::isnan(x[i]) ? x[i] : maxima[i];
      }
    }
    for (std::int64_t i = 0; i < count; ++i) {
      out[first + i] =
          args.kind == PoolingKind::max ? maxima[i] : static_cast<float>(sums[i] / static_cast<double>(end - begin));
    }
  }
}

/// x / max(|x|, 1e-12), as torch.nn.functional.normalize.
void normalize_l2(float* x, std::int64_t columns) {
  double squares = 0.0;
  for (std::int64_t i = 0; i < columns; ++i) squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const double norm = std::sqrt(squares);
  const double factor = 1.0 / (norm < 1e-12 ? 1e-12 : norm);  // NaN passes through
  for (std::int64_t i = 0; i < columns; ++i) x[i] = static_cast<float>(static_cast<double>(x[i]) * factor);
}

}  // namespace

void cpu_pool(CpuContext& context, const PoolArgs& args) {
  const std::int32_t* starts = args.batch->query_starts.as<const std::int32_t>();
  const std::int64_t columns = args.x.dim(1);
  for_rows(context.pool, args.batch->num_sequences, [&](std::int64_t sequence, int) {
    const std::int64_t begin = starts[sequence], end = starts[sequence + 1];
    INFERD_CHECK(begin < end);
    float* out = args.out.as<float>() + sequence * args.out.row_stride;
    if (args.kind == PoolingKind::cls || args.kind == PoolingKind::last) {
      const std::int64_t row = args.kind == PoolingKind::cls ? begin : end - 1;
      std::copy_n(args.x.as<const float>() + row * args.x.row_stride, columns, out);
    } else {
      pool_columns(args, begin, end, out);
    }
    if (args.normalize) normalize_l2(out, columns);
  });
}

}  // namespace inferd
