// Rotary tables.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/rope_params.h"

namespace inferd::cuda {

void rope_table(Launcher& launcher, const RopeTableArgs& args) {
  const std::int64_t pairs = args.inv_freq.dim(args.inv_freq.rank - 1);
  const std::int64_t count = args.positions.dim(0) * pairs;
  INFERD_CHECK(args.inv_freq.rank == (args.rows ? 2 : 1) && args.out.row_stride % 2 == 0 && count < (1LL << 31));
  if (count == 0) return;
  RopeTableParams params{};
  params.positions = args.positions.as<std::int32_t>();
  params.inv_freq = args.inv_freq.as<float>();
  params.rows = args.rows.as<std::int32_t>();
  params.out = args.out.as<float>();
  params.out_stride = args.out.row_stride;
  params.count = static_cast<std::uint32_t>(count);
  params.pairs = static_cast<std::uint32_t>(pairs);
  params.scaling = args.attention_scaling;
  launcher.run(Kernel::rope_table, {static_cast<unsigned>((count + 255) / 256)}, params);
}

}  // namespace inferd::cuda
