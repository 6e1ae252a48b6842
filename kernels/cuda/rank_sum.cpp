// What ranks computed of one matrix, added up.
#include "kernels/cuda/rank_sum.h"

#include "kernels/cuda/dev/rank_sum_params.h"

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

}  // namespace inferd::cuda
