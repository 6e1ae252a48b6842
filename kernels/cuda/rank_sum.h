// What ranks computed of one matrix, added up.
#pragma once

#include <cstdint>

#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// out[i] = sum of parts[r][i] over the ranks, in their order. parts: [ranks, count] f32, out: [count] f32, apart.
void sum_ranks(Launcher& launcher, const float* parts, int ranks, std::int64_t count, float* out);

}  // namespace inferd::cuda
