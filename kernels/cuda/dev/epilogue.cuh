// What happens to the sums of a linear layer before they are stored: addend, bias, activation function, residual.
#pragma once

#include "kernels/cuda/dev/epilogue_params.h"

namespace inferd::cuda {

/// v / (1 + e^-x)
inline __device__ float times_sigmoid(float v, float x) { return __fdividef(v, 1.0f + expf(-x)); }

inline __device__ float apply_function(ActivationFunction function, float v) {
  switch (function) {
    case ActivationFunction::gelu_erf:
      return 0.5f * v * (1.0f + erff(v * 0.70710678118654752f));
    case ActivationFunction::gelu_tanh:  // 1 + tanh(u) = 2 / (1 + e^-2u)
      return times_sigmoid(v, 2.0f * 0.79788456080286536f * (v + 0.044715f * v * v * v));
    case ActivationFunction::silu:
      return times_sigmoid(v, v);
    case ActivationFunction::tanh:
      return tanhf(v);
    case ActivationFunction::none:
      break;
  }
  return v;
}

inline __device__ float add_inputs(const EpilogueParams& p, std::int64_t token, int row, float sum) {
  if (p.addend != nullptr) sum += p.addend[token * p.addend_stride + row];
  if (p.bias != nullptr) sum += p.bias[row];
  return sum;
}

inline __device__ void store_value(const EpilogueParams& p, std::int64_t token, int column, float value) {
  if (p.residual != nullptr) value += p.residual[token * p.residual_stride + column];
  p.out[token * p.out_stride + column] = value;
}

/// Finishes and stores one output of a weight that is not gated. `row` is the product's, `sum` the row of W times x.
inline __device__ void store_output(const EpilogueParams& p, std::int64_t token, int row, float sum) {
  store_value(p, token, row, apply_function(p.function, add_inputs(p, token, row, sum)));
}

/// Of a gated weight: the sums of rows `column` and half + `column`.
inline __device__ void store_gated(const EpilogueParams& p, std::int64_t token, int column, float gate, float up) {
  gate = add_inputs(p, token, column, gate);
  up = add_inputs(p, token, p.half + column, up);
  store_value(p, token, column, apply_function(p.function, gate) * up);
}

}  // namespace inferd::cuda
