// Parameters of the kernels of norm.cu.
#pragma once

#include <cstdint>

#include "kernels/cuda/activation.h"

namespace inferd::cuda {

/// NormArgs; one block a row.
struct NormParams {
  const float* x;
  const float* weight;    // [columns]
  const float* added;     // null, or a row added to each row, or one to all
  float* out;             // or null; may be x or added
  ActivationPlanes into;  // every plane null: none
  std::int64_t x_stride;  // elements
  std::int64_t added_stride;
  std::int64_t out_stride;
  std::int32_t columns;
  std::int32_t centred;  // LayerNorm
  std::int32_t vectors;  // all rows are 16-byte aligned
  float eps;
};

}  // namespace inferd::cuda
