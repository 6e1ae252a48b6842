// Row arithmetic: what the sampler asks of a whole row of logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler/row_passes.h"

namespace inferd {

/// One token and its (changed) logit.
struct Candidate {
  float logit = 0.0f;
  std::int32_t id = 0;
};

/// Larger logit first; of equal ones the lower id.
inline bool better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// Sets *max to the largest element, -inf for an empty row. False if an element is NaN or infinite.
bool scan_row(std::span<const float> row, float* max);
/// The largest element; -inf for an empty row. No element may be NaN.
float row_max(std::span<const float> row);
/// Lowest id whose element is `value`, the row's largest.
std::int32_t first_of(std::span<const float> row, float value);
/// Lowest id with the largest logit.
Candidate row_argmax(std::span<const float> row);

/// weights[i] = exp((row[i] - max) / temperature), relative error below 3e-7, exactly 0 below e^-87.
/// block_sums[b] = sum over block b of kSumBlock elements. Returns the whole sum. `weights` may be null.
double exp_weights(std::span<const float> row, float max, float temperature, float* weights,
                   std::vector<double>* block_sums);

/// The `count` best candidates above -inf, best first, into *out (its capacity is reused).
void select_best(std::span<const float> row, std::size_t count, std::vector<Candidate>* out);

}  // namespace inferd
