// The passes over a row: accuracy of the exponential, order and ties of the selection.
#include <cmath>
#include <limits>
#include <random>

#include "engine/sampler/row_math.h"
#include "tests/catch.h"

namespace inferd {
namespace {

TEST_CASE("exp_weights is accurate over its whole range and sums as it should") {
  std::vector<float> row;
  for (float x = -86.99f; x < 0.0f; x += 0.00371f) row.push_back(x);
  row.push_back(0.0f);
  std::vector<float> weights(row.size());
  std::vector<double> blocks;
  const double total = exp_weights(row, 0.0f, 1.0f, weights.data(), &blocks);
  double worst = 0.0, sum = 0.0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    const double exact = std::exp(static_cast<double>(row[i]));
    worst = std::max(worst, std::abs(weights[i] - exact) / exact);
    sum += exact;
  }
  CHECK(worst < 3e-7);
  CHECK(total == Approx(sum).epsilon(1e-6));
  double of_blocks = 0.0;
  for (const double block : blocks) of_blocks += block;
  CHECK(of_blocks == total);
  CHECK(blocks.size() == (row.size() + kSumBlock - 1) / kSumBlock);
  CHECK(exp_weights(row, 0.0f, 1.0f, nullptr, nullptr) == total);
  CHECK(weights.back() == 1.0f);
}

TEST_CASE("exp_weights far below is zero, also for -inf") {
  const std::vector<float> row = {-88.0f, -1000.0f, -1e30f, -std::numeric_limits<float>::infinity()};
  std::vector<float> weights(row.size(), 9.0f);
  CHECK(exp_weights(row, 0.0f, 1.0f, weights.data(), nullptr) == 0.0);
  for (const float w : weights) CHECK(w == 0.0f);
}

TEST_CASE("select_best equals a full sort, ties by lower id") {
  std::mt19937 rng(5);
  std::vector<Candidate> got;
  for (const std::size_t size : {1u, 2u, 9u, 100u, 1000u, 5000u}) {
    for (const unsigned values : {1u, 3u, 50u, 1000000u}) {
      std::vector<float> row(size);
      for (float& x : row) x = static_cast<float>(rng() % values);
      if (size > 8) row[3] = row[8] = -std::numeric_limits<float>::infinity();
      std::vector<Candidate> sorted;
      for (std::size_t i = 0; i < size; ++i) {
        if (std::isfinite(row[i])) sorted.push_back({row[i], static_cast<std::int32_t>(i)});
      }
      std::sort(sorted.begin(), sorted.end(), better);
      for (const std::size_t count :
           {std::size_t{0}, std::size_t{1}, std::size_t{5}, std::size_t{64}, size, size + 3}) {
        select_best(row, count, &got);
        REQUIRE(got.size() == std::min(count, sorted.size()));
        for (std::size_t i = 0; i < got.size(); ++i) {
          REQUIRE(got[i].id == sorted[i].id);
          REQUIRE(got[i].logit == sorted[i].logit);
        }
      }
      CHECK(row_argmax(row).id == sorted[0].id);
      CHECK(row_max(row) == sorted[0].logit);
    }
  }
}

}  // namespace
}  // namespace inferd
