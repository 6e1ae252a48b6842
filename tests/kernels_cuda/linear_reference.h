// fp64 products of packed weights with activations as they were rounded, and the error f32 accumulation may leave.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/quant_formats.h"
#include "tests/kernels_cuda/sim_weight.h"

namespace inferd::cuda::test {

/// An Activation of given rows, written by to_activation.
struct SimActivation {
  SimActivation(SimLauncher& sim, const std::vector<float>& x, std::int64_t rows, std::int64_t columns,
                std::uint32_t forms) {
    view.rows = rows;
    view.columns = columns;
    view.forms = forms;
    std::size_t bytes = 0;
    activation_planes(nullptr, rows, columns, forms, &bytes);
    view.data = sim.allocate(bytes, "activation", true);
    ToActivationArgs args;
    args.x = sim.put(x, DType::f32, {rows, columns}, "x");
    args.out = view;
    to_activation(sim, args);
    planes = activation_planes(view.data, rows, columns, forms);
  }
  Activation view;
  ActivationPlanes planes;
};

/// The values an activation holds in one of its forms: [rows, columns].
inline std::vector<double> values_of(SimLauncher& sim, const Activation& activation, std::uint32_t form) {
  const ActivationPlanes planes =
      activation_planes(activation.data, activation.rows, activation.columns, activation.forms);
  const auto stride = static_cast<std::size_t>(planes.stride), rows = static_cast<std::size_t>(activation.rows);
  std::vector<double> out;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(activation.columns); ++c) out.push_back(0);
  }
  const auto columns = static_cast<std::size_t>(activation.columns);
  if (form == kF32Form) {
    const auto f32 = sim.get<float>(planes.f32, rows * stride);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(f32[i / columns * stride + i % columns]);
    return out;
  }
  const auto half = sim.get<std::uint16_t>(form == kBf16Form ? planes.bf16 : planes.f16, rows * stride);
  const auto scale = form == kF16Form ? sim.get<float>(planes.f16_scale, rows) : std::vector<float>(rows, 1.0f);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint16_t bits = half[i / columns * stride + i % columns];
    out[i] = static_cast<double>((form == kBf16Form ? bf16_to_f32(bits) : f16_to_f32(bits)) * scale[i / columns]);
  }
  return out;
}

struct Product {
  std::vector<double> y;      // [tokens, rows]
  std::vector<double> error;  // what f32 accumulation may be off by
};

/// x W^T. Sums of at most K + K / 16 terms, none larger than the row's largest weight (or its minimum, of that size)
/// times an x, each rounded to 2^-24 of a partial sum below their total; far fewer are that unlucky together.
inline Product multiply(const std::vector<float>& w, const std::vector<double>& x, std::int64_t rows,
                        std::int64_t columns) {
  const auto n = static_cast<std::size_t>(rows), k = static_cast<std::size_t>(columns);
  const std::size_t tokens = x.size() / k;
  Product product{std::vector<double>(tokens * n), std::vector<double>(tokens * n)};
  for (std::size_t r = 0; r < n; ++r) {
    double largest = 0;
    for (std::size_t c = 0; c < k; ++c) largest = std::fmax(largest, std::fabs(static_cast<double>(w[r * k + c])));
    for (std::size_t t = 0; t < tokens; ++t) {
      double sum = 0, size = 0;
      for (std::size_t c = 0; c < k; ++c) {
        sum += static_cast<double>(w[r * k + c]) * x[t * k + c];
        size += std::fabs(x[t * k + c]);
      }
      product.y[t * n + r] = sum;
      product.error[t * n + r] = largest * size * 0x1p-20;
    }
  }
  return product;
}

}  // namespace inferd::cuda::test
