// Pooling.
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/pool_params.h"

namespace inferd::cuda {
namespace {

PooledRows pooled_rows(PoolingKind kind) {
  switch (kind) {
    case PoolingKind::mean:
      return PooledRows::all_mean;
    case PoolingKind::max:
      return PooledRows::all_max;
    case PoolingKind::cls:
      return PooledRows::first;
    case PoolingKind::last:
      return PooledRows::last;
  }
  INFERD_CHECK(false);
}

}  // namespace

void pool(Launcher& launcher, const PoolArgs& args) {
  const auto sequences = static_cast<unsigned>(args.batch->num_sequences);
  const std::int64_t columns = args.x.dim(1);
  if (sequences == 0) return;
  PoolParams params{};
  params.x = args.x.as<float>();
  params.query_starts = args.batch->query_starts.as<std::int32_t>();
  params.out = args.out.as<float>();
  params.x_stride = args.x.row_stride;
  params.out_stride = args.out.row_stride;
  params.columns = static_cast<std::int32_t>(columns);
  params.rows = pooled_rows(args.kind);
  params.vectors = aligned_rows(args.x.data, args.x.row_stride);
  launcher.run(Kernel::pool, {sequences, static_cast<unsigned>((columns + 31) / 32)}, params);
  if (!args.normalize) return;
  NormalizeParams divide{};
  divide.rows = params.out;
  divide.stride = params.out_stride;
  divide.columns = params.columns;
  launcher.run(Kernel::normalize_rows, {sequences}, divide);
}

}  // namespace inferd::cuda
