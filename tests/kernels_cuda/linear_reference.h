// fp64 products of packed weights with activations as they were rounded, and the error f32 accumulation may leave.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/quant_formats.h"
#include "tests/kernels_cuda/linear_check.h"
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
  const auto columns = static_cast<std::size_t>(activation.columns);
  std::vector<float> wide(rows * stride);
  if (form == kF32Form) {
    wide = sim.get<float>(planes.f32, wide.size());
  } else if (form == kInt8Form) {
    const auto codes = sim.get<std::int8_t>(planes.int8, wide.size());
    const auto scale = sim.get<float>(planes.int8_scale, rows);
    std::vector<double> out(rows * columns);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = double{scale[i / columns]} * codes[i / columns * stride + i % columns];
    }
    return out;
  } else {
    const auto half = sim.get<std::uint16_t>(form == kBf16Form ? planes.bf16 : planes.f16, wide.size());
    const auto scale = form == kF16Form ? sim.get<float>(planes.f16_scale, rows) : std::vector<float>(rows, 1.0f);
    for (std::size_t i = 0; i < wide.size(); ++i) {
      wide[i] = (form == kBf16Form ? bf16_to_f32(half[i]) : f16_to_f32(half[i])) * scale[i / stride];
    }
  }
  std::vector<double> out(rows * columns);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = double{wide[i / columns * stride + i % columns]};
  return out;
}

struct Product {
  std::vector<double> sums;   // [tokens, rows]
  std::vector<double> error;  // what f32 accumulation may be off by
};

/// x W^T. No term is larger than the row's largest weight (or its minimum, of that size) times an x, and each addition
/// rounds to 2^-24 of a partial sum that stays below the sum of all terms' magnitudes; sixteen such in the same
/// direction have not been seen at these lengths.
inline Product multiply(const std::vector<float>& w, const std::vector<double>& x, std::size_t columns) {
  const std::size_t rows = w.size() / columns, tokens = x.size() / columns;
  Product product{std::vector<double>(tokens * rows), std::vector<double>(tokens * rows)};
  for (std::size_t r = 0; r < rows; ++r) {
    const float* row = w.data() + r * columns;
    double largest = 0;
    for (std::size_t c = 0; c < columns; ++c) largest = std::fmax(largest, std::fabs(double{row[c]}));
    for (std::size_t t = 0; t < tokens; ++t) {
      double sum = 0, size = 0;
      for (std::size_t c = 0; c < columns; ++c) {
        sum += double{row[c]} * x[t * columns + c];
        size += std::fabs(x[t * columns + c]);
      }
      product.sums[t * rows + r] = sum;
      product.error[t * rows + r] = largest * size * 0x1p-20;
    }
  }
  return product;
}

/// Normally distributed, rows of sizes 1/4 to 4.
inline std::vector<float> random_rows(std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = std::ldexp(normal(random), static_cast<int>(i / static_cast<std::size_t>(columns) % 5) - 2);
  }
  return x;
}

/// An epilogue in f64 of the sums of a whole product; absent inputs are empty. Activation functions are within 1e-6 of
/// their definition, and pass errors on with a slope of at most 1.2.
struct EpilogueReference {
  ActivationFunction function = ActivationFunction::none;
  bool gated = false;
  std::vector<float> addend, bias, residual;

  Product operator()(const Product& product, std::size_t rows) const {
    const std::size_t columns = gated ? rows / 2 : rows, tokens = product.sums.size() / rows;
    Product out;
    for (std::size_t i = 0; i < tokens * columns; ++i) {
      const std::size_t t = i / columns, c = i % columns;
      const auto input = [&](std::size_t row) {
        return product.sums[t * rows + row] + (addend.empty() ? 0 : double{addend[t * rows + row]}) +
               (bias.empty() ? 0 : double{bias[row]});
      };
      const auto error = [&](std::size_t row) { return product.error[t * rows + row] + 1e-6 * std::fabs(input(row)); };
      double value = activated(function, input(c));
      double wrong = 1.2 * error(c) + 1e-6 * (1 + std::fabs(value));
      if (gated) {
        const double up = input(columns + c);
        wrong = wrong * std::fabs(up) + error(columns + c) * std::fabs(value);
        value *= up;
      }
      if (!residual.empty()) value += double{residual[i]};
      out.sums.push_back(value);
      out.error.push_back(wrong + 1e-6 * std::fabs(value));
    }
    return out;
  }
};

}  // namespace inferd::cuda::test
