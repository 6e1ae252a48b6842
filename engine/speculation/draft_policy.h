// How many draft tokens a sequence gets: from how its drafts fared, and from what one more row costs a step.
#pragma once

#include <cstdint>

#include "engine/options.h"

namespace inferd {

/// How the drafts of one request fared lately. Owned by its Sequence.
class DraftRecord {
 public:
  /// The chance that the next draft token is accepted, between 0 and 1; kPrior until there is experience.
  double rate() const { return (accepted_ + kPrior * kPriorWeight) / (tested_ + kPriorWeight); }
  /// Of a draft, `accepted` tokens were right; unless all of them were, one was found wrong.
  void note(std::int64_t accepted, std::int64_t drafted) {
    idle_ = 0;
    forget(kKeepTested);
    accepted_ += static_cast<double>(accepted);
    tested_ += static_cast<double>(accepted < drafted ? accepted + 1 : drafted);
  }
  /// A step passed without a draft. After kRetrySteps of them experience fades, so that a request that gave up tries
  /// again.
  void note_idle() {
    if (++idle_ < kRetrySteps) return;
    idle_ = 0;
    forget(kKeepIdle);
  }

 private:
  static constexpr double kPrior = 0.5, kPriorWeight = 2.0, kKeepTested = 0.85, kKeepIdle = 0.5;
  static constexpr int kRetrySteps = 32;
  void forget(double keep) {
    accepted_ *= keep;
    tested_ *= keep;
  }
  double accepted_ = 0, tested_ = 0;
  int idle_ = 0;
};

/// Draft tokens worth their rows, at most `limit`. `rate` is DraftRecord::rate; `decoding` sequences get one token each
/// in the step. A step of n rows takes 1 + row_cost * (n - 1) times as long as one of a single row. The i-th draft
/// token brings rate^i tokens; it pays if that is a larger share of the step's tokens than its row is of the step's
/// time. Rows of prompts do not count: they are worth what they cost.
std::int64_t draft_length(const SpeculationOptions& options, double rate, std::int64_t decoding, std::int64_t limit);

}  // namespace inferd
