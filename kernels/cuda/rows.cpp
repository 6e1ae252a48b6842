// Copies of rows, and of tokens.
#include "base/check.h"
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

void take_tokens(Launcher& launcher, const TakeTokensArgs& args) {
  constexpr std::int64_t kThreads = 256;
  const std::int64_t count = args.tokens.dim(0);
  INFERD_CHECK(args.sources.dim(0) == count);
  if (count == 0) return;
  TakeTokensParams params{};
  params.tokens = args.tokens.as<std::int32_t>();
  params.sources = args.sources.as<std::int32_t>();
  params.drawn = args.drawn.as<std::int32_t>();
  params.count = static_cast<std::int32_t>(count);
  launcher.run(Kernel::take_tokens, {static_cast<unsigned>((count + kThreads - 1) / kThreads)}, params);
}

}  // namespace inferd::cuda
