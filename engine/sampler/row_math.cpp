// Row arithmetic, over the passes of this machine's instruction level.
#include "engine/sampler/row_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace inferd {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

bool scan_row(std::span<const float> row, float* max) { return row_passes().scan(row.data(), row.size(), max); }

float row_max(std::span<const float> row) { return row_passes().max(row.data(), row.size()); }

std::int32_t first_of(std::span<const float> row, float value) {
  const std::size_t at = value > -kInfinity
                             ? row_passes().next_above(row.data(), row.size(), 0, std::nextafter(value, -kInfinity))
                             : static_cast<std::size_t>(std::find(row.begin(), row.end(), value) - row.begin());
  return static_cast<std::int32_t>(at);
}

Candidate row_argmax(std::span<const float> row) {
  const float best = row_max(row);
  return {best, first_of(row, best)};
}

double exp_weights(std::span<const float> row, float max, float temperature, float* weights,
                   std::vector<double>* block_sums) {
  if (block_sums != nullptr) block_sums->resize((row.size() + kSumBlock - 1) / kSumBlock);
  return row_passes().exp_weights(row.data(), row.size(), max, temperature, weights,
                                  block_sums != nullptr ? block_sums->data() : nullptr);
}

void select_best(std::span<const float> row, std::size_t count, std::vector<Candidate>* out) {
  out->clear();
  if (count == 0) return;
  count = std::min(count, row.size());
  const RowPasses& passes = row_passes();
  // Ids rise, so a later candidate equal to the threshold loses against those already held.
  const std::size_t limit = 2 * count + 256;
  float threshold = -kInfinity;
  for (std::size_t id = 0; id < row.size(); ++id) {
    id = passes.next_above(row.data(), row.size(), id, threshold);
    if (id == row.size()) break;
    out->push_back({row[id], static_cast<std::int32_t>(id)});
    if (out->size() < limit) continue;
    std::nth_element(out->begin(), out->begin() + static_cast<std::ptrdiff_t>(count - 1), out->end(), better);
    out->resize(count);
    threshold = out->back().logit;
  }
  std::sort(out->begin(), out->end(), better);
  if (out->size() > count) out->resize(count);
}

}  // namespace inferd
