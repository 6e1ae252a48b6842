// Adapters' updates, kLoraUpdates of them a launch.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/cuda_low_rank.h"
#include "kernels/cuda/cuda_ops.h"

namespace inferd::cuda {

void lora(Launcher& launcher, const LoraArgs& args) {
  if (args.num_tokens == 0) return;
  const std::int64_t rows = args.out.dim(1);
  INFERD_CHECK(args.num_tokens <= args.x.rows && args.num_tokens <= args.out.dim(0));
  LoraParams params{};
  params.x = activation_planes(args.x.data, args.x.rows, args.x.columns, args.x.forms);
  params.adapters = args.adapters.as<std::int32_t>();
  params.shrunk = args.shrunk.as<float>();
  params.out = args.out.as<float>();
  params.shrunk_stride = args.shrunk.row_stride;
  params.out_stride = args.out.row_stride;
  params.rows = static_cast<std::int32_t>(rows);
  const auto tokens = static_cast<unsigned>(args.num_tokens);
  const auto expand_blocks = static_cast<unsigned>((rows + kExpandRows - 1) / kExpandRows);
  do {
    params.count = std::min(args.num_updates - params.first, kLoraUpdates);
    std::int64_t most_rank = 0;
    for (int i = 0; i < params.count; ++i) {
      const auto* update = static_cast<const CudaLowRank*>(args.updates[params.first + i]);
      params.updates[i] = update != nullptr ? update->view() : LowRankView{};
      if (update == nullptr) continue;
      INFERD_CHECK(update->rows() == rows && update->columns() == args.x.columns);
      most_rank = std::max(most_rank, update->rank());
    }
    INFERD_CHECK(most_rank <= args.shrunk.dim(1));
    const auto shrink_blocks = static_cast<unsigned>((most_rank + kShrinkRanks - 1) / kShrinkRanks);
    if (shrink_blocks > 0) launcher.run(Kernel::lora_shrink, {tokens, shrink_blocks}, params);
    launcher.run(Kernel::lora_expand, {tokens, expand_blocks}, params);
    params.first += kLoraUpdates;
  } while (params.first < args.num_updates);
}

}  // namespace inferd::cuda
