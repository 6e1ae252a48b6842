// RMSNorm and LayerNorm.
#include "kernels/cuda/activation.h"
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/norm_params.h"

namespace inferd::cuda {
namespace {

Kernel kernel_for(std::int64_t columns) {
  if (columns <= 1024) return Kernel::norm_1024;
  if (columns <= 2048) return Kernel::norm_2048;
  if (columns <= 4096) return Kernel::norm_4096;
  return columns <= 8192 ? Kernel::norm_8192 : Kernel::norm_wide;
}

}  // namespace

void norm(Launcher& launcher, const NormArgs& args) {
  const std::int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  INFERD_CHECK(columns > 0 && columns <= 32768 && !(args.bias && args.residual));
  if (rows == 0) return;
  NormParams params{};
  params.x = args.x.as<float>();
  params.weight = args.weight.as<float>();
  params.added = args.residual ? args.residual.as<float>() : args.bias.as<float>();
  params.out = args.out.as<float>();
  if (args.activation) {
    INFERD_CHECK(args.activation.columns == columns && rows <= args.activation.rows);
    params.into =
        activation_planes(args.activation.data, args.activation.rows, args.activation.columns, args.activation.forms);
  }
  params.x_stride = args.x.row_stride;
  params.added_stride = args.residual.row_stride;
  params.out_stride = args.out.row_stride;
  params.columns = static_cast<std::int32_t>(columns);
  params.centred = args.kind == NormKind::layer;
  params.vectors = aligned_rows(params.x, params.x_stride) && aligned_rows(params.weight, 0) &&
                   aligned_rows(params.added, params.added_stride) && aligned_rows(params.out, params.out_stride);
  params.eps = args.eps;
  launcher.run(kernel_for(columns), {static_cast<unsigned>(rows)}, params);
}

}  // namespace inferd::cuda
