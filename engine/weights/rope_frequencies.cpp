// Inverse frequencies of rotary position embeddings under every published scaling.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "engine/weights/model_config.h"

namespace inferd {
namespace {

/// theta^(-2i/R), in double until the end.
std::vector<double> plain_frequencies(double theta, int rotary_dim) {
  std::vector<double> frequencies(static_cast<std::size_t>(rotary_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(theta, -static_cast<double>(2 * i) / rotary_dim);
  }
  return frequencies;
}

/// Long wavelengths are divided by the factor, short ones kept, those between blended.
void scale_llama3(const RopeConfig& rope, std::vector<double>* frequencies) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  for (double& frequency : *frequencies) {
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    if (wavelength < original / rope.high_freq_factor) continue;
    if (wavelength > original / rope.low_freq_factor) {
      frequency /= rope.factor;
      continue;
    }
    const double smooth =
        (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    frequency = (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
  }
}

double yarn_mscale(double factor, double scale) { return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; }

/// arXiv:2309.00071: interpolates dimensions that turn less than beta_slow times in the original context, keeps those
/// that turn more than beta_fast times.
float scale_yarn(const RopeConfig& rope, std::vector<double>* frequencies) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const double dims = rope.rotary_dim;
  const auto dimension_of = [&](double rotations) {
    return dims * std::log(original / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(rope.theta));
  };
  double low = dimension_of(rope.beta_fast);
  double high = dimension_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies->size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    double& frequency = (*frequencies)[i];
    frequency = frequency / rope.factor * ramp + frequency * (1.0 - ramp);
  }
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  if (rope.mscale.value_or(0.0) != 0.0 && rope.mscale_all_dim.value_or(0.0) != 0.0) {
    return static_cast<float>(yarn_mscale(rope.factor, *rope.mscale) / yarn_mscale(rope.factor, *rope.mscale_all_dim));
  }
  return static_cast<float>(yarn_mscale(rope.factor, 1.0));
}

float scale_longrope(const RopeConfig& rope, std::int64_t max_positions, std::int64_t sequence_length,
                     std::vector<double>* frequencies) {
  const std::int64_t original = rope.original_max_position_embeddings;
  const std::int64_t length = sequence_length > 0 ? sequence_length : max_positions;
  const std::vector<float>& factors = length > original ? rope.long_factors : rope.short_factors;
  INFERD_CHECK(factors.size() == frequencies->size());
  for (std::size_t i = 0; i < frequencies->size(); ++i) (*frequencies)[i] /= static_cast<double>(factors[i]);
  if (rope.attention_factor) return static_cast<float>(*rope.attention_factor);
  const double factor =
      rope.factor > 0.0 ? rope.factor : static_cast<double>(max_positions) / static_cast<double>(original);
  if (factor <= 1.0 || original <= 1) return 1.0f;
  return static_cast<float>(std::sqrt(1.0 + std::log(factor) / std::log(static_cast<double>(original))));
}

/// The base that keeps the lowest frequency within the trained range at `length` positions.
double dynamic_theta(const RopeConfig& rope, std::int64_t max_positions, std::int64_t sequence_length) {
  const std::int64_t original =
      rope.original_max_position_embeddings > 0 ? rope.original_max_position_embeddings : max_positions;
  const auto length = static_cast<double>(std::max(sequence_length, original));
  const double dims = rope.rotary_dim;
  if (dims <= 2.0) return rope.theta;
  const double grown = rope.factor * length / static_cast<double>(original) - (rope.factor - 1.0);
  return rope.theta * std::pow(grown, dims / (dims - 2.0));
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& rope, std::int64_t max_position_embeddings,
                                 std::int64_t sequence_length) {
  RopeFrequencies result;
  const double theta =
      rope.scaling == "dynamic" ? dynamic_theta(rope, max_position_embeddings, sequence_length) : rope.theta;
  std::vector<double> frequencies = plain_frequencies(theta, rope.rotary_dim);
  if (rope.scaling == "linear") {
    for (double& frequency : frequencies) frequency /= rope.factor;
  } else if (rope.scaling == "llama3") {
    scale_llama3(rope, &frequencies);
  } else if (rope.scaling == "yarn") {
    result.attention_scaling = scale_yarn(rope, &frequencies);
  } else if (rope.scaling == "longrope") {
    result.attention_scaling = scale_longrope(rope, max_position_embeddings, sequence_length, &frequencies);
  }
  if (!rope.freq_divisors.empty()) {
    INFERD_CHECK(rope.freq_divisors.size() == frequencies.size());
    for (std::size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= static_cast<double>(rope.freq_divisors[i]);
  }
  for (double frequency : frequencies) result.inv_freq.push_back(static_cast<float>(frequency));
  return result;
}

}  // namespace inferd
