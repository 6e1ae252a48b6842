// Runs linear layers through a Backend on host data, and their fp64 yardstick.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/linear/activation.h"
#include "tests/kernels/random_weights.h"

namespace inferd::testing {

inline std::vector<std::string> available_levels() {
  std::vector<std::string> names;
  for (CpuLevel level : kCpuLevels) {
    if (cpu_level_available(level)) names.emplace_back(cpu_level_name(level));
  }
  return names;
}

inline std::unique_ptr<Backend> cpu(const std::string& isa, int threads,
                                    ActivationMode mode = ActivationMode::automatic) {
  return make_cpu_backend({.threads = threads, .isa = isa, .activations = mode});
}

inline std::vector<float> random_rows(std::int64_t rows, std::int64_t columns, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  for (float& value : x) value = normal(random);
  return x;
}

/// An Activation whose memory was all NaN before it was written.
struct PoisonedActivation {
  PoisonedActivation(Backend& backend, std::int64_t rows, std::int64_t columns, std::uint32_t forms)
      : buffer(backend.allocate(backend.activation_bytes(rows, columns, forms))) {
    std::memset(buffer->data(), 0xff, buffer->bytes());
    view = {buffer->data(), rows, columns, forms};
  }
  std::unique_ptr<DeviceBuffer> buffer;
  Activation view;
};

inline Tensor rows_of(std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  return Tensor(values.data(), DType::f32, {rows, columns});
}

/// x W^T for the first `tokens` rows of x.
inline std::vector<float> run_linear(Backend& backend, const Weight& weight, const std::vector<float>& x,
                                     std::int64_t tokens, LinearArgs args = {}) {
  std::vector<float> input(x.begin(), x.begin() + tokens * weight.columns());
  PoisonedActivation activation(backend, tokens + 3, weight.columns(), weight.activation_forms());
  backend.to_activation({.x = rows_of(input, tokens, weight.columns()), .out = activation.view});
  const bool gated = is_gated(args.epilogue);
  const std::int64_t columns = gated ? weight.rows() / 2 : weight.rows();
  std::vector<float> out(static_cast<std::size_t>(tokens * columns));
  args.x = activation.view;
  args.num_tokens = tokens;
  args.weight = &weight;
  args.out = rows_of(out, tokens, columns);
  backend.linear(args);
  return out;
}

/// The largest |out - fp64 of the same inputs| / sum |a w|. `inputs`: rows as the kernel sees them.
inline double worst_error(const std::vector<float>& out, const std::vector<float>& inputs,
                          const std::vector<float>& weights, std::int64_t tokens, std::int64_t rows,
                          std::int64_t columns) {
  double worst = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      double size = 1e-30;
      for (std::int64_t k = 0; k < columns; ++k) {
        const double product =
            static_cast<double>(inputs[t * columns + k]) * static_cast<double>(weights[r * columns + k]);
        sum += product;
        size += std::abs(product);
      }
      const double error = std::abs(sum - static_cast<double>(out[t * rows + r])) / size;
      worst = std::isnan(error) ? 1e9 : std::max(worst, error);
    }
  }
  return worst;
}

/// Rows of x as the kernels of this weight see them.
inline std::vector<float> seen_inputs(Backend& backend, const Weight& weight, std::vector<float> x,
                                      std::int64_t tokens) {
  const std::int64_t columns = weight.columns();
  PoisonedActivation activation(backend, tokens, columns, weight.activation_forms());
  backend.to_activation({.x = rows_of(x, tokens, columns), .out = activation.view});
  std::vector<float> seen;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::vector<float> row = read_activation_row(activation.view, t);
    seen.insert(seen.end(), row.begin(), row.end());
  }
  return seen;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b, std::size_t count) {
  return std::memcmp(a.data(), b.data(), count * sizeof(float)) == 0;
}

}  // namespace inferd::testing
