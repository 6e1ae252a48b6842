// Products with int8 weights and int8 activations on tensor cores.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// Multiplies by a part that reads the int8 form. The results are the same for every `tile` (linear_i8_tile); -1:
/// choose.
void linear_i8(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
               const EpilogueParams& epilogue, int tile = -1);

}  // namespace inferd::cuda
