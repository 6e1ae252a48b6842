// Which experts a mixture's tokens go through, from the definition, in fp64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <vector>

namespace inferd::testing {

/// Experts of each token and what they count: the top_k largest logits, the lower index first among equals; weights are
/// the softmax over all of them, over their sum if `normalize`.
inline std::vector<std::map<std::int32_t, double>> route_reference(const std::vector<float>& logits,
                                                                   std::size_t experts, std::size_t top_k,
                                                                   bool normalize) {
  std::vector<std::map<std::int32_t, double>> out;
  for (std::size_t at = 0; at < logits.size(); at += experts) {
    std::vector<std::int32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    const float* row = logits.data() + at;
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return row[a] > row[b]; });
    const double largest = double{row[order[0]]};
    double all = 0, picked = 0;
    for (std::size_t e = 0; e < experts; ++e) all += std::exp(double{row[e]} - largest);
    for (std::size_t k = 0; k < top_k; ++k) picked += std::exp(double{row[order[k]]} - largest);
    std::map<std::int32_t, double>& token = out.emplace_back();
    for (std::size_t k = 0; k < top_k; ++k) {
      token[order[k]] = std::exp(double{row[order[k]]} - largest) / (normalize ? picked : all);
    }
  }
  return out;
}

/// Logits of few different values, so that many are equal, or of many.
inline std::vector<float> router_logits(std::size_t count, bool ties, std::uint32_t seed) {
  std::vector<float> logits(count);
  for (float& value : logits) {
    seed = seed * 1664525u + 1013904223u;
    value = ties ? static_cast<float>(seed >> 29) : static_cast<float>(seed >> 8) * 0x1p-21f - 4.0f;
  }
  return logits;
}

/// A plan on the host, as route leaves it.
struct HostPlan {
  std::vector<std::int32_t> starts, counts, tokens, experts, places;
  std::vector<float> weights;

  /// Empty if it is the plan of these choices, each weight within `tolerance` of its size; else what is wrong.
  const char* wrong(const std::vector<std::map<std::int32_t, double>>& expected, double tolerance) const {
    const std::size_t top_k = experts.size() / expected.size();
    std::int64_t row = 0;
    for (std::size_t e = 0; e < starts.size(); ++e) {
      if (starts[e] != row) return "a start";
      for (std::size_t t = 0; t < expected.size(); ++t) {
        if (expected[t].count(static_cast<std::int32_t>(e)) == 0) continue;
        const std::size_t rank = static_cast<std::size_t>(
            std::distance(expected[t].begin(), expected[t].find(static_cast<std::int32_t>(e))));
        const std::size_t i = t * top_k + rank;
        if (experts[i] != static_cast<std::int32_t>(e)) return "an expert";
        const double weight = expected[t].at(experts[i]);
        if (!(std::fabs(double{weights[i]} - weight) <= tolerance * weight)) return "a weight";  // nor a NaN
        if (places[i] != row || tokens[static_cast<std::size_t>(row)] != static_cast<std::int32_t>(t)) return "a row";
        ++row;
      }
      if (counts[e] != row - starts[e]) return "a count";
      for (; row % 4 != 0; ++row) {
        if (tokens[static_cast<std::size_t>(row)] != -1) return "a gap";
      }
    }
    for (; row < static_cast<std::int64_t>(tokens.size()); ++row) {
      if (tokens[static_cast<std::size_t>(row)] != -1) return "what is behind the last row";
    }
    return "";
  }
};

}  // namespace inferd::testing
