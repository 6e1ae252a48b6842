// How many draft tokens a sequence gets.
#include "engine/speculation/draft_policy.h"

#include <algorithm>

namespace inferd {

DraftWorth draft_worth(const SpeculationOptions& options, double rate, std::int64_t decoding, std::int64_t limit,
                       double draft_cost) {
  limit = std::min(limit, options.max_tokens);
  if (options.mode == SpeculationMode::off) return {};
  const auto sequences = static_cast<double>(std::max<std::int64_t>(decoding, 1));
  // Times as if all that decode made drafts: a step of the draft model then costs each of them the same share.
  const double least = options.row_cost * sequences / (1 + options.row_cost * (sequences - 1)) + draft_cost;
  DraftWorth worth;
  for (double chance = rate; worth.length < limit; chance *= rate) {
    if (options.mode == SpeculationMode::automatic && chance <= least) break;
    ++worth.length;
    worth.gain += chance - least;
  }
  return worth;
}

DraftCost::DraftCost(std::size_t model_bytes, std::size_t draft_bytes, double row_cost)
    : expected_(model_bytes > 0 ? static_cast<double>(draft_bytes) / static_cast<double>(model_bytes) : 0.0),
      row_cost_(row_cost) {}

void DraftCost::note(double* smoothed, std::int64_t rows, double seconds) const {
  constexpr std::int64_t kMostRows = 32;  // beyond, a step's time is no longer one of reading weights
  constexpr double kNew = 0.1;
  if (rows < 1 || rows > kMostRows || !(seconds > 0)) return;
  const double of_one = seconds / (1 + row_cost_ * static_cast<double>(rows - 1));
  *smoothed = *smoothed > 0 ? *smoothed + kNew * (of_one - *smoothed) : of_one;
}

}  // namespace inferd
