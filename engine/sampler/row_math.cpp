// Row arithmetic. Sums run in a fixed order (8 lanes inside blocks of 1,024, then f64), the same on every machine.
#include "engine/sampler/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace inferd {
namespace {

constexpr std::size_t kLanes = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// exp for x ≤ 0 without branches: 2^n * P(r) with |r| ≤ ln2 / 2, P the Taylor polynomial of degree 7.
inline float exp_negative(float x) {
  const float clamped = x > -87.0f ? x : -87.0f;
  const float shifted =
      clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact in few bits
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const auto exponent = (std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u;
  const float value = p * std::bit_cast<float>(exponent);
  return x > -87.0f ? value : 0.0f;
}

}  // namespace

bool all_finite(std::span<const float> row) {
  std::uint32_t bad = 0;
  for (const float value : row) {
    const std::uint32_t exponent = std::bit_cast<std::uint32_t>(value) & 0x7f800000u;
    bad |= exponent == 0x7f800000u ? 1u : 0u;
  }
  return bad == 0;
}

float row_max(std::span<const float> row) {
  std::array<float, kLanes> lanes;
  lanes.fill(-kInfinity);
  std::size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
    }
  }
  float best = -kInfinity;
  for (; i < row.size(); ++i) best = std::max(best, row[i]);
  for (const float lane : lanes) best = std::max(best, lane);
  return best;
}

Candidate row_argmax(std::span<const float> row) {
  const float best = row_max(row);
  const auto at = std::find(row.begin(), row.end(), best);
  return {best, static_cast<std::int32_t>(at - row.begin())};
}

double exp_weights(std::span<const float> row, float max, float temperature, float* weights,
                   std::vector<double>* block_sums) {
  if (block_sums != nullptr) block_sums->clear();
  std::array<float, kSumBlock> scratch;
  double total = 0.0;
  for (std::size_t start = 0; start < row.size(); start += kSumBlock) {
    const std::size_t count = std::min(kSumBlock, row.size() - start);
    const float* in = row.data() + start;
    float* out = weights != nullptr ? weights + start : scratch.data();
    for (std::size_t i = 0; i < count; ++i) out[i] = exp_negative((in[i] - max) / temperature);
    std::array<float, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += out[i + lane];
    }
    for (std::size_t lane = 0; i < count; ++i, ++lane) lanes[lane] += out[i];
    double sum = 0.0;
    for (const float lane : lanes) sum += static_cast<double>(lane);
    if (block_sums != nullptr) block_sums->push_back(sum);
    total += sum;
  }
  return total;
}

void select_best(std::span<const float> row, std::size_t count, std::vector<Candidate>* out) {
  out->clear();
  if (count == 0) return;
  count = std::min(count, row.size());
  // Ids rise, so a later candidate equal to the threshold loses against those already held.
  const std::size_t limit = 2 * count + 256;
  float threshold = -kInfinity;
  for (std::size_t id = 0; id < row.size(); ++id) {
    if (!(row[id] > threshold)) continue;
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
