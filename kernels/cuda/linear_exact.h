// The exact linear kernels, as linear() calls them part by part.
#pragma once

#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// Queues the product of one part with x [num_tokens, x_stride], the f32 form of an activation, and its epilogue, in
/// f32 throughout. `epilogue` is the whole product's; its half is set if and only if the part is interleaved.
void linear_exact(Launcher& launcher, const CudaWeight::Part& part, const float* x, std::int64_t x_stride,
                  std::int64_t num_tokens, const EpilogueParams& epilogue);

}  // namespace inferd::cuda
