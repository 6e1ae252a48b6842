// What a linear layer must give, in f64, and how far f32 sums may be from it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/dev/epilogue_params.h"

namespace inferd::cuda::test {

/// Products of rows of x [tokens, columns] with rows of w [rows, columns]: the sums and those of the magnitudes.
struct Products {
  std::vector<double> sums;        // [tokens, rows]
  std::vector<double> magnitudes;  // [tokens, rows]
};

inline Products products(const std::vector<float>& w, const std::vector<float>& x, std::size_t columns) {
  const std::size_t rows = w.size() / columns, tokens = x.size() / columns;
  Products result{std::vector<double>(tokens * rows), std::vector<double>(tokens * rows)};
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t k = 0; k < columns; ++k) {
        const double term = double{w[r * columns + k]} * double{x[t * columns + k]};
        result.sums[t * rows + r] += term;
        result.magnitudes[t * rows + r] += std::fabs(term);
      }
    }
  }
  return result;
}

/// The first element that is further than `tolerance` of its magnitude (plus `floor`) from what was expected; or empty.
inline std::string first_difference(const std::vector<float>& found, const std::vector<double>& expected,
                                    const std::vector<double>& magnitudes, double tolerance, double floor = 0) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::fabs(double{found[i]} - expected[i]) <= tolerance * magnitudes[i] + floor) continue;
    return "element " + std::to_string(i) + ": expected " + std::to_string(expected[i]) + ", found " +
           std::to_string(found[i]);
  }
  return "";
}

/// The definition of an epilogue's function.
inline double activated(ActivationFunction function, double v) {
  switch (function) {
    case ActivationFunction::gelu_erf:
      return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
    case ActivationFunction::gelu_tanh:
      return 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)));
    case ActivationFunction::silu:
      return v / (1 + std::exp(-v));
    case ActivationFunction::tanh:
      return std::tanh(v);
    case ActivationFunction::none:
      break;
  }
  return v;
}

}  // namespace inferd::cuda::test
