// The Kullback-Leibler divergence of two rows of logits.
#include "engine/fidelity/kl_divergence.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace inferd {
namespace {

double log_sum_exp(std::span<const float> row, double highest) {
  double total = 0;
  for (const float value : row) total += std::exp(value - highest);
  return highest + std::log(total);
}

}  // namespace

double kl_divergence(std::span<const float> reference, std::span<const float> logits) {
  INFERD_CHECK(!reference.empty() && reference.size() == logits.size());
  const double p_norm = log_sum_exp(reference, *std::max_element(reference.begin(), reference.end()));
  const double q_norm = log_sum_exp(logits, *std::max_element(logits.begin(), logits.end()));
  double kl = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - p_norm;
    kl += std::exp(log_p) * (log_p - (logits[i] - q_norm));
  }
  return kl;
}

}  // namespace inferd
