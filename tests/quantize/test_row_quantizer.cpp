// Blocks written by quantize_row, read back by the published layouts, against what is possible at all.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "engine/quantize/fit_blocks.h"
#include "engine/quantize/row_quantizer.h"
#include "kernels/backend.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"

namespace inferd {
namespace portable {
extern const FitBlocks kFitBlocks;
}
#if defined(__x86_64__)
namespace avx2 {
extern const FitBlocks kFitBlocks;
}
namespace avx512vnni {
extern const FitBlocks kFitBlocks;
}
#endif
}  // namespace inferd

using namespace inferd;

namespace {

constexpr std::int64_t kColumns = 32 * 37;  // no multiple of the blocks fitted together

/// Weights with heavier tails than a bell curve, and one block far from the others in size.
std::vector<float> weights(unsigned seed) {
  std::mt19937 random(seed);
  std::student_t_distribution<float> draw(5);
  std::vector<float> out(kColumns);
  for (float& value : out) value = 0.02f * draw(random);
  for (std::int64_t i = 64; i < 96; ++i) out[static_cast<std::size_t>(i)] *= 1000.0f;
  return out;
}

std::vector<float> there_and_back(DType dtype, const std::vector<float>& row) {
  const auto columns = static_cast<std::int64_t>(row.size());
  std::vector<std::byte> blocks(row_bytes(dtype, columns));
  REQUIRE(quantize_row(dtype, row.data(), columns, blocks.data()));
  std::vector<float> back(row.size());
  dequantize_row(dtype, blocks.data(), back.data(), columns);
  return back;
}

double squared_error(const float* x, double step, double low) {
  double error = 0;
  for (int i = 0; i < 32; ++i) {
    const double code = step > 0 ? std::clamp(std::nearbyint((x[i] - low) / step), 0.0, 15.0) : 0.0;
    error += std::pow(x[i] - (step * code + low), 2);
  }
  return error;
}

/// The least squared error that step and low can have, by trying a fine grid of both in double.
double least_error(const float* x) {
  const auto [low, high] = std::minmax_element(x, x + 32);
  const double range = *high - *low;
  double best = std::numeric_limits<double>::infinity();
  for (int a = -5; a <= 60; ++a) {
    for (int b = -5; b <= 60; ++b) {
      const double from = *low + range * a / 200, to = *high - range * b / 200;
      best = std::min(best, squared_error(x, (to - from) / 15, from));
    }
  }
  return best;
}

}  // namespace

TEST_CASE("Q8_0 is off by half a step at most") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<float> row = weights(seed), back = there_and_back(DType::q8_0, row);
    for (std::size_t b = 0; b < row.size(); b += 32) {
      float largest = 0;
      for (std::size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::fabs(row[i]));
      // half a step, and what rounding the scale to f16 does to the largest code
      const float bound = largest / 127 * (0.5f + 127 * 0x1p-11f);
      for (std::size_t i = b; i < b + 32; ++i) {
        INFO("seed " << seed << ", weight " << i);
        CHECK(std::fabs(row[i] - back[i]) <= bound);
      }
    }
  }
}

TEST_CASE("Q4_1 comes within 4% of the least squared error there is") {
  double ours = 0, least = 0, plain = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    const std::vector<float> row = weights(seed), back = there_and_back(DType::q4_1, row);
    for (std::size_t b = 0; b < row.size(); b += 32) {
      const auto [low, high] = std::minmax_element(&row[b], &row[b] + 32);
      const double size = std::pow(*high - *low, 2);  // each block counts alike
      double error = 0;
      for (std::size_t i = b; i < b + 32; ++i) error += std::pow(row[i] - back[i], 2);
      ours += error / size;
      least += least_error(&row[b]) / size;
      plain += squared_error(&row[b], (*high - *low) / 15.0, *low) / size;
    }
  }
  CHECK(ours <= 1.04 * least);
  CHECK(ours <= 0.85 * plain);  // the search is worth its time
}

TEST_CASE("values that a block can hold come back as they were") {
  std::vector<float> row(kColumns);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = 0.125f * static_cast<float>(i * 7 % 16) - 0.75f;
  CHECK(there_and_back(DType::q4_1, row) == row);
  std::vector<float> same(32 * 3, 0.3125f);
  CHECK(there_and_back(DType::q4_1, same) == same);
  for (float& value : same) value = 0.0f;
  CHECK(there_and_back(DType::q4_1, same) == same);
  CHECK(there_and_back(DType::q8_0, same) == same);
  std::vector<float> eighth(32);
  for (std::size_t i = 0; i < 32; ++i) eighth[i] = 0.25f * (static_cast<float>(i) * 8 - 127);
  CHECK(there_and_back(DType::q8_0, eighth) == eighth);
}

TEST_CASE("weights that are not finite or too large are refused, wherever they stand") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType dtype : {DType::q4_1, DType::q8_0}) {
    std::vector<std::byte> blocks(row_bytes(dtype, kColumns));
    for (const float bad : {kInfinity, -kInfinity, std::nanf(""), 65600.0f, -65600.0f}) {
      for (const std::size_t at : {std::size_t{0}, std::size_t{700}, static_cast<std::size_t>(kColumns) - 1}) {
        std::vector<float> row = weights(1);
        row[at] = bad;
        CHECK_FALSE(quantize_row(dtype, row.data(), kColumns, blocks.data()));
      }
    }
    std::vector<float> extreme(kColumns, kMostQuantizable);
    extreme[5] = -kMostQuantizable;
    extreme[40] = 1e-38f;
    const std::vector<float> back = there_and_back(dtype, extreme);
    CHECK(std::all_of(back.begin(), back.end(), [](float value) { return std::isfinite(value); }));
    CHECK(back[0] == Approx(65504).epsilon(0.01));
  }
}

#if defined(__x86_64__)
TEST_CASE("every instruction level finds the same steps") {
  std::vector<float> lanes(kFitElements * kFitLanes);
  std::mt19937 random(3);
  std::normal_distribution<float> draw;
  for (int repeat = 0; repeat < 50; ++repeat) {
    for (float& value : lanes) value = draw(random);
    float expected[2][kFitLanes], found[2][kFitLanes];
    portable::kFitBlocks(lanes.data(), expected[0], expected[1]);
    if (best_cpu_level() >= CpuLevel::avx2) {
      avx2::kFitBlocks(lanes.data(), found[0], found[1]);
      CHECK(std::memcmp(expected, found, sizeof found) == 0);
    }
    if (best_cpu_level() >= CpuLevel::avx512vnni) {
      avx512vnni::kFitBlocks(lanes.data(), found[0], found[1]);
      CHECK(std::memcmp(expected, found, sizeof found) == 0);
    }
  }
}
#endif
