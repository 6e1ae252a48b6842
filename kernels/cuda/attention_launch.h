// What the host halves of the attention ops share.
#pragma once

#include <algorithm>

#include "kernels/cuda/alignment.h"
#include "kernels/cuda/dev/attention_params.h"
#include "kernels/cuda/launcher.h"
#include "kernels/ops.h"

namespace inferd::cuda {

inline constexpr int kMaxGrid = 65535;  // blocks in a grid's second dimension

/// Where an op's rows go: the caller's tensor or, on their way into an activation, the start of the workspace.
struct OutRows {
  OutRows(const Launcher& launcher, const Tensor& out, std::int64_t num_tokens, std::int64_t columns);
  Tensor rows;                // [num_tokens, columns] f32
  std::size_t workspace = 0;  // bytes of it taken
};

/// One launch of an attention_fma.cu kernel for sequences of at most `queries` tokens.
void launch_fma(Launcher& launcher, Kernel kernel, const AttentionParams& params, std::int64_t queries, int sequences,
                int spans);

}  // namespace inferd::cuda
