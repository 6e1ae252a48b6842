// f32 rows into the forms linear layers read.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/to_activation_params.h"

namespace inferd::cuda {

void to_activation(Launcher& launcher, const ToActivationArgs& args) {
  const std::int64_t rows = args.x.dim(0);
  if (rows == 0) return;
  ToActivationParams params{};
  params.x = args.x.as<float>();
  params.x_stride = args.x.row_stride;
  params.columns = static_cast<std::int32_t>(args.x.dim(1));
  params.vectors = aligned_rows(args.x.data, args.x.row_stride);
  params.out = activation_planes(args.out.data, args.out.rows, args.out.columns, args.out.forms);
  launcher.run(Kernel::to_activation, {static_cast<unsigned>(rows)}, params);
}

}  // namespace inferd::cuda
