// RMSNorm and LayerNorm on the CPU.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/ops/for_rows.h"
#include "kernels/cpu/ops/level_table.h"

namespace inferd {

void cpu_norm(CpuContext& context, const NormArgs& args) {
  const RowKernels& kernels = row_kernels(context.level);
  const auto norm = args.kind == NormKind::rms ? kernels.rms_norm : kernels.layer_norm;
  const std::int64_t columns = args.x.dim(1);
  INFERD_CHECK(!args.bias || !args.residual);
  INFERD_CHECK(args.out || static_cast<std::size_t>(columns) <= context.worker_scratch_floats);
  for_rows(context.pool, args.x.dim(0), [&](std::int64_t row, int worker) {
    const float* x = args.x.as<const float>() + row * args.x.row_stride;
    float* out = args.out ? args.out.as<float>() + row * args.out.row_stride : context.scratch(worker);
    const float* added =
        args.residual ? args.residual.as<const float>() + row * args.residual.row_stride : args.bias.as<const float>();
    norm(x, args.weight.as<const float>(), added, args.eps, columns, out);
    if (args.activation) store_activation_row(context, args.activation, row, out);
  });
}

}  // namespace inferd
