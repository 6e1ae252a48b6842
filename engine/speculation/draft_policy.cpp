// How many draft tokens a sequence gets.
#include "engine/speculation/draft_policy.h"

#include <algorithm>

namespace inferd {

std::int64_t draft_length(const SpeculationOptions& options, double rate, std::int64_t decoding, std::int64_t limit) {
  limit = std::min(limit, options.max_tokens);
  if (options.mode == SpeculationMode::off) return 0;
  if (options.mode == SpeculationMode::ngram) return std::max<std::int64_t>(limit, 0);
  const auto sequences = static_cast<double>(std::max<std::int64_t>(decoding, 1));
  const double least = options.row_cost * sequences / (1 + options.row_cost * (sequences - 1));
  std::int64_t length = 0;
  for (double chance = rate; length < limit && chance > least; chance *= rate) ++length;
  return length;
}

}  // namespace inferd
