// The passes over a row: accuracy of the exponential, order and ties of the selection.
#include <cmath>
#include <limits>
#include <random>

#include "engine/sampler/row_math.h"
#include "tests/catch.h"

namespace inferd {

namespace portable {
extern const RowPasses kRowPasses;
}

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

TEST_CASE("scan_row sees every NaN and infinity, and the maximum elsewhere") {
  for (const std::size_t size : {1u, 7u, 64u, 65u, 1000u}) {
    std::vector<float> row(size, -3.0f);
    for (std::size_t at = 0; at < size; at += 1 + size / 13) {
      float max = 0.0f;
      row[at] = 2.5f;
      CHECK(scan_row(row, &max));
      CHECK(max == 2.5f);
      CHECK(first_of(row, max) == static_cast<std::int32_t>(at));
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()}) {
        row[at] = bad;
        CHECK_FALSE(scan_row(row, &max));
      }
      row[at] = -3.0f;
    }
  }
}

TEST_CASE("every instruction level yields the same bits") {
  std::vector<float> row(5003);
  std::mt19937 rng(7);
  for (float& x : row) x = static_cast<float>(rng() % 1000000) * 1e-4f - 99.0f;
  const float max = row_max(row);
  std::vector<float> weights(row.size()), expected(row.size());
  std::vector<double> blocks;
  const double total = exp_weights(row, max, 0.7f, weights.data(), &blocks);
  std::vector<double> expected_blocks(blocks.size());
  CHECK(portable::kRowPasses.exp_weights(row.data(), row.size(), max, 0.7f, expected.data(), expected_blocks.data()) ==
        total);
  CHECK(weights == expected);
  CHECK(blocks == expected_blocks);
  CHECK(portable::kRowPasses.max(row.data(), row.size()) == max);
  for (std::size_t from = 0; from < row.size(); from += 97) {
    CHECK(portable::kRowPasses.next_above(row.data(), row.size(), from, -2.0f) ==
          row_passes().next_above(row.data(), row.size(), from, -2.0f));
  }
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
