// The mean of rotated biases.
#include "engine/models/key_shift.h"

#include <algorithm>
#include <cmath>
#include <complex>

#include "kernels/ops.h"

namespace inferd {
namespace {

constexpr int kPositions = 2048;  // of most contexts; beyond, keys of slow pairs lie further from the mean

/// The mean of e^(i frequency position): a geometric series.
std::complex<double> mean_turn(double frequency) {
  const double half = std::sin(frequency / 2);
  if (half == 0.0) return 1.0;
  return std::polar(1.0, frequency * (kPositions - 1) / 2) *
         (std::sin(frequency * kPositions / 2) / (kPositions * half));
}

}  // namespace

KeyShift key_shift(std::span<const float> bias, int head_dim, const RopeConfig& rope, std::span<const float> inv_freq,
                   float attention_scaling) {
  KeyShift shift;
  shift.mean.assign(bias.begin(), bias.end());
  const auto pairs = static_cast<std::size_t>(rope.rotary_dim / 2);
  const bool interleaved = rope.style == RopeStyle::interleaved;
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::complex<double> turn = mean_turn(inv_freq[i]);
    const double spread = std::sqrt(std::max(0.0, 1.0 - std::norm(turn)));
    const std::size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + pairs;
    for (std::size_t head = 0; head < shift.mean.size(); head += static_cast<std::size_t>(head_dim)) {
      float &a = shift.mean[head + first], &b = shift.mean[head + second];
      const std::complex<double> pair = std::complex<double>(a, b) * static_cast<double>(attention_scaling);
      shift.swing = std::max(shift.swing, static_cast<float>(std::abs(pair) * spread));
      a = static_cast<float>((pair * turn).real());
      b = static_cast<float>((pair * turn).imag());
    }
  }
  return shift;
}

}  // namespace inferd
