// Parameters of the kernels of linear_rows.cu.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/dev/epilogue_params.h"

namespace inferd::cuda {

/// Column i of out is column order[i] of x, in the bf16 or f16 form, which both have; one block a row.
struct PermuteColumnsParams {
  ActivationPlanes x;
  ActivationPlanes out;
  const std::int32_t* order;  // [stride]
};

/// Sums of a gated weight, gates and ups side by side, into its outputs; grid: columns / 256, T.
struct FinishGatedParams {
  const float* sums;  // [T, 2 * epilogue.half]
  EpilogueParams epilogue;
};

}  // namespace inferd::cuda
