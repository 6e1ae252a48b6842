// The row passes of one instruction level: plain loops that the compiler vectorises.
#include <cstdint>
#include <cstring>

#include "engine/sampler/row_passes.h"
#include "kernels/cpu/level.h"

namespace inferd::INFERD_LEVEL {
namespace {

constexpr std::size_t kLanes = 8, kBlock = 64;
constexpr float kInfinity = __builtin_huge_valf();

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

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
  const float value = p * float_of((bits_of(shifted) << 23) + 0x3f800000u);
  return x > -87.0f ? value : 0.0f;
}

inline float larger(float a, float b) { return a > b ? a : b; }

float max_of(const float* row, std::size_t count) {
  float lanes[kBlock];
  for (float& lane : lanes) lane = -kInfinity;
  std::size_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    for (std::size_t lane = 0; lane < kBlock; ++lane) lanes[lane] = larger(row[i + lane], lanes[lane]);
  }
  float best = -kInfinity;
  for (; i < count; ++i) best = larger(row[i], best);
  for (const float lane : lanes) best = larger(lane, best);
  return best;
}

bool scan(const float* row, std::size_t count, float* max) {
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < count; ++i) bad |= (bits_of(row[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  *max = max_of(row, count);
  return bad == 0;
}

double exp_weights(const float* row, std::size_t count, float max, float temperature, float* weights,
                   double* block_sums) {
  float scratch[kSumBlock];
  double total = 0.0;
  for (std::size_t start = 0; start < count; start += kSumBlock) {
    const std::size_t here = count - start < kSumBlock ? count - start : kSumBlock;
    const float* in = row + start;
    float* out = weights != nullptr ? weights + start : scratch;
    for (std::size_t i = 0; i < here; ++i) out[i] = exp_negative((in[i] - max) / temperature);
    float lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= here; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += out[i + lane];
    }
    for (std::size_t lane = 0; i < here; ++i, ++lane) lanes[lane] += out[i];
    double sum = 0.0;
    for (const float lane : lanes) sum += static_cast<double>(lane);
    if (block_sums != nullptr) block_sums[start / kSumBlock] = sum;
    total += sum;
  }
  return total;
}

std::size_t next_above(const float* row, std::size_t count, std::size_t from, float threshold) {
  std::size_t i = from;
  while (i + kBlock <= count) {
    std::uint32_t found = 0;
    for (std::size_t lane = 0; lane < kBlock; ++lane) found |= row[i + lane] > threshold ? 1u : 0u;
    if (found != 0) break;
    i += kBlock;
  }
  for (; i < count; ++i) {
    if (row[i] > threshold) return i;
  }
  return count;
}

}  // namespace

extern const RowPasses kRowPasses;
const RowPasses kRowPasses = {scan, max_of, exp_weights, next_above};

}  // namespace inferd::INFERD_LEVEL
