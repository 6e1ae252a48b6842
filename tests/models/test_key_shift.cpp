// What rotated keys have in common, against the mean over positions taken one by one.
#include "engine/models/key_shift.h"

#include <cmath>
#include <complex>

#include "tests/catch.h"

namespace inferd {
namespace {

TEST_CASE("the shift is the mean of the rotated bias, the swing what is lost by it") {
  for (RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
    RopeConfig rope;
    rope.rotary_dim = 6;
    rope.style = style;
    const std::vector<float> frequencies = {1.0f, 0.003f, 1e-6f};
    // Two heads of 8: three pairs turn, two components do not.
    std::vector<float> bias = {3, -1, 50, 2, 4, -90, 7, -8, 0, 1, 2, 3, 4, 5, 6, -7};
    constexpr int kPositions = 2048, kHeadDim = 8;
    constexpr float kScaling = 1.5f;
    const KeyShift shift = key_shift(bias, kHeadDim, rope, frequencies, kScaling);
    REQUIRE(shift.mean.size() == bias.size());
    double swing = 0;
    for (int head = 0; head < 2; ++head) {
      for (int i = 0; i < 3; ++i) {
        const bool half = style == RopeStyle::half;
        const int a = head * kHeadDim + (half ? i : 2 * i), b = head * kHeadDim + (half ? i + 3 : 2 * i + 1);
        const std::complex<double> pair(kScaling * bias[a], kScaling * bias[b]);
        std::complex<double> mean = 0;
        for (int p = 0; p < kPositions; ++p)
          mean += pair * std::polar(1.0, p * double{frequencies[i]}) / double{kPositions};
        CHECK(std::abs(std::complex<double>(shift.mean[a], shift.mean[b]) - mean) < 1e-4);
        double square = 0;
        for (int p = 0; p < kPositions; ++p) {
          square += std::norm(pair * std::polar(1.0, p * double{frequencies[i]}) - mean) / kPositions;
        }
        swing = std::max(swing, std::sqrt(square));
      }
      for (int d = 6; d < 8; ++d) CHECK(shift.mean[head * kHeadDim + d] == bias[head * kHeadDim + d]);
    }
    CHECK(std::fabs(shift.swing - swing) < 1e-3);
    CHECK(swing > 1);
  }
}

TEST_CASE("without a bias there is no shift") {
  RopeConfig rope;
  rope.rotary_dim = 8;
  const KeyShift shift = key_shift({}, 8, rope, std::vector<float>(4, 1.0f), 1.0f);
  CHECK(shift.mean.empty());
  CHECK(shift.swing == 0.0f);
}

}  // namespace
}  // namespace inferd
