// exp, and the activation functions made of it, on vectors. Included by level sources only.
#pragma once

#include "kernels/cpu/linear/level/simd.h"

namespace inferd {
namespace {

typedef std::int32_t vector_ints __attribute__((vector_size(4 * kLanes)));

/// e^x to about 2 units in the last place; x outside [-87, 88] is taken as the bound, NaN stays NaN.
INFERD_ALWAYS_INLINE vf exp_vector(vf x) {
  const vf low = splat(-87.0f);
  const vf high = splat(88.0f);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf n = multiply_add(x, splat(1.44269504f), magic) - magic;
  vf r = multiply_add(n, splat(-0.693359375f), x);  // ln 2 in two parts, the first exact in few bits
  r = multiply_add(n, splat(2.12194440e-4f), r);
  vf p = splat(1.0f / 5040);
  p = multiply_add(p, r, splat(1.0f / 720));
  p = multiply_add(p, r, splat(1.0f / 120));
  p = multiply_add(p, r, splat(1.0f / 24));
  p = multiply_add(p, r, splat(1.0f / 6));
  p = multiply_add(p, r, splat(0.5f));
  p = multiply_add(p, r, splat(1.0f));
  p = multiply_add(p, r, splat(1.0f));
  const vf safe_n = n == n ? n : zero_f();
  const vector_ints bits = (__builtin_convertvector(safe_n, vector_ints) + 127) << 23;
  return p * reinterpret_cast<vf>(bits);
}

INFERD_ALWAYS_INLINE vf silu(vf x) { return x / (splat(1.0f) + exp_vector(zero_f() - x)); }

/// 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3).
INFERD_ALWAYS_INLINE vf gelu_tanh(vf x) {
  const vf u = x * multiply_add(x * x, splat(0.044715f), splat(1.0f));
  return x / (splat(1.0f) + exp_vector(u * splat(-1.5957691216f)));
}

/// tanh: near 0 by its odd series, where 1 - 2 / (e^(2x) + 1) would cancel.
INFERD_ALWAYS_INLINE vf tanh_vector(vf x) {
  const vf magnitude = x < zero_f() ? zero_f() - x : x;
  const vf far = splat(1.0f) - splat(2.0f) / (exp_vector(magnitude + magnitude) + splat(1.0f));
  const vf square = x * x;
  vf p = splat(-17.0f / 315);
  p = multiply_add(p, square, splat(2.0f / 15));
  p = multiply_add(p, square, splat(-1.0f / 3));
  p = multiply_add(p, square, splat(1.0f));
  const vf signed_far = x < zero_f() ? zero_f() - far : far;
  return magnitude < splat(0.1f) ? p * x : signed_far;
}

/// 0.5 x (1 + erf(x / sqrt(2))). erfc(z) = e^(-z^2) P(2 / (2 + z)) for z ≥ 0, P fitted to a relative error of 5e-9.
INFERD_ALWAYS_INLINE vf gelu_erf(vf x) {
  const vf magnitude = x < zero_f() ? zero_f() - x : x;
  const vf z = magnitude * splat(0.70710678f);
  const vf t = splat(2.0f) / (splat(2.0f) + z);
  vf p = splat(0.029213367f);
  p = multiply_add(p, t, splat(-0.21824852f));
  p = multiply_add(p, t, splat(0.6614829f));
  p = multiply_add(p, t, splat(-0.9962992f));
  p = multiply_add(p, t, splat(0.7110544f));
  p = multiply_add(p, t, splat(-0.268113f));
  p = multiply_add(p, t, splat(0.29185385f));
  p = multiply_add(p, t, splat(0.22163703f));
  p = multiply_add(p, t, splat(0.28559434f));
  p = multiply_add(p, t, splat(0.28181508f));
  p = multiply_add(p, t, splat(9.768925e-06f));
  const vf tail = splat(0.5f) * x * (p * exp_vector(zero_f() - z * z));
  return x < zero_f() ? tail : x - tail;
}

}  // namespace
}  // namespace inferd
