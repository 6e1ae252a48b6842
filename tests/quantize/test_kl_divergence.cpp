// The KL divergence against values worked out by hand.
#include <cmath>
#include <vector>

#include "engine/fidelity/kl_divergence.h"
#include "tests/catch.h"

using namespace inferd;

TEST_CASE("KL of two coins") {
  // p = (3/4, 1/4), q = (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2)
  const std::vector<float> p = {std::log(3.0f), 0.0f}, q = {5.0f, 5.0f};
  CHECK(kl_divergence(p, q) == Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)).epsilon(1e-6));
  CHECK(kl_divergence(q, p) == Approx(0.5 * std::log(2.0 / 3.0) + 0.5 * std::log(2.0)).epsilon(1e-6));
}

TEST_CASE("KL does not depend on what is added to all logits, and is zero of equals") {
  const std::vector<float> p = {1.0f, -2.0f, 0.5f}, shifted = {501.0f, 498.0f, 500.5f};
  CHECK(std::fabs(kl_divergence(p, shifted)) < 1e-12);
  const std::vector<float> far = {0.0f, -2000.0f, 0.5f};
  CHECK(std::isfinite(kl_divergence(far, p)));
}
