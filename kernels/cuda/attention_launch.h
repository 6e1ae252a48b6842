// What the host halves of the attention ops share.
#pragma once

#include <algorithm>

#include "kernels/cuda/dev/attention_params.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr int kMaxGrid = 65535;  // blocks in a grid's second dimension
inline constexpr int kFmaRows = 16;     // attention_fma.cu
inline constexpr int kFmaKeys = 32;

/// One launch of an attention_fma.cu kernel for sequences of at most `queries` tokens.
void launch_fma(Launcher& launcher, Kernel kernel, const AttentionParams& params, std::int64_t queries, int sequences,
                int spans);

}  // namespace inferd::cuda
