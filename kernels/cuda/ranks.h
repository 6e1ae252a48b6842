// What ranks computed of one matrix, brought together.
#pragma once

#include <cstdint>

#include "kernels/cuda/launcher.h"
#include "kernels/tensor.h"

namespace inferd::cuda {

/// out[i] = sum of parts[r][i] over the ranks, in their order. parts: [ranks, count] f32, out: [count] f32, apart.
void sum_ranks(Launcher& launcher, const float* parts, int ranks, std::int64_t count, float* out);

/// out[t][r * columns + c] = parts[r][t][c]. parts: [ranks, tokens, columns] f32, out: [tokens, ranks * columns] f32,
/// rows possibly strided.
void join_ranks(Launcher& launcher, const float* parts, int ranks, const Tensor& out);

}  // namespace inferd::cuda
