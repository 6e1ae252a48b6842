// Copies of rows.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/rows_params.h"

namespace inferd::cuda {

void gather_rows(Launcher& launcher, const GatherRowsArgs& args) {
  const std::int64_t count = args.out.dim(0);
  if (count == 0) return;
  GatherRowsParams params{};
  params.x = args.x.as<float>();
  params.rows = args.rows.as<std::int32_t>();
  params.out = args.out.as<float>();
  params.x_stride = args.x.row_stride;
  params.out_stride = args.out.row_stride;
  params.columns = static_cast<std::int32_t>(args.x.dim(1));
  launcher.run(Kernel::gather_rows, {static_cast<unsigned>(count)}, params);
}

}  // namespace inferd::cuda
