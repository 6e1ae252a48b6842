// What ranks computed of one matrix, brought together.
#include "kernels/cuda/ranks.h"

#include "kernels/cuda/dev/ranks_params.h"

namespace inferd::cuda {

void sum_ranks(Launcher& launcher, const float* parts, int ranks, std::int64_t count, float* out) {
  if (count == 0) return;
  const auto aligned16 = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 == 0; };
  SumRanksParams params{};
  params.parts = parts;
  params.out = out;
  params.count = count;
  params.ranks = ranks;
  params.vectors = count % 4 == 0 && aligned16(parts) && aligned16(out) ? 1 : 0;
  launcher.run(Kernel::sum_ranks, {static_cast<unsigned>((count + 1023) / 1024)}, params);
}

void join_ranks(Launcher& launcher, const float* parts, int ranks, const Tensor& out) {
  if (out.dim(0) == 0) return;
  JoinRanksParams params{};
  params.parts = parts;
  params.out = out.as<float>();
  params.tokens = out.dim(0);
  params.out_stride = out.row_stride;
  params.columns = static_cast<std::int32_t>(out.dim(1) / ranks);
  launcher.run(Kernel::join_ranks, {static_cast<unsigned>(out.dim(0)), static_cast<unsigned>(ranks)}, params);
}

}  // namespace inferd::cuda
