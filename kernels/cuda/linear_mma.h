// Products with packed weights on tensor cores.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/linear_mma_params.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// Index for linear_tile() of the tile that suits so many tokens.
int choose_linear_tile(const Launcher& launcher, WeightFormat format, std::int64_t num_tokens, std::int64_t row_tiles);

/// What kernels take of a product with a part, but for the number of tokens; `x` has the form that the part reads.
LinearMmaParams linear_mma_params(const CudaWeight::Part& part, const ActivationPlanes& x,
                                  const EpilogueParams& epilogue);

/// Multiplies by a part that reads the f16 or bf16 form; the columns of x are in the part's order. The results are the
/// same for every `tile`; -1: choose.
void linear_mma(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
                const EpilogueParams& epilogue, int tile = -1);

}  // namespace inferd::cuda
