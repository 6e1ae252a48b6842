// Parameters of the kernel of to_activation.cu.
#pragma once

#include "kernels/cuda/activation.h"

namespace inferd::cuda {

/// Rows of f32 into the planes of an activation, one block a row.
struct ToActivationParams {
  const float* x;
  std::int64_t x_stride;  // elements
  std::int32_t columns;
  bool vectors;  // rows of x are 16-byte aligned
  ActivationPlanes out;
};

}  // namespace inferd::cuda
