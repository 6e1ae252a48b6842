// What happens to the sums of a linear layer before they are stored: parameters of epilogue.cuh.
#pragma once

#include <cstdint>

namespace inferd::cuda {

enum class ActivationFunction : std::int32_t { none, gelu_erf, gelu_tanh, silu, tanh };

/// Of the whole product, stacked parts together: T tokens, R rows; columns of out: R, or R / 2 if gated.
struct EpilogueParams {
  const float* addend;    // [T, R] or null
  const float* bias;      // [R] or null
  const float* residual;  // [T, columns] or null; may be out
  float* out;             // [T, columns]
  std::int64_t addend_stride;
  std::int64_t residual_stride;
  std::int64_t out_stride;
  ActivationFunction function;
  std::int32_t half;  // gated: R / 2, rows [0, half) are gates; else 0
};

}  // namespace inferd::cuda
