// How many draft tokens a sequence gets: from how its drafts fared, and from what they cost a step.
#pragma once

#include <cstdint>

#include "engine/options.h"

namespace inferd {

/// How the drafts of one request fared lately. Owned by its Sequence.
class DraftRecord {
 public:
  static constexpr double kPrior = 0.5;
  static constexpr double kModelPrior = 0.7;  // of a draft model: somebody chose it for this
  /// The chance that the next draft token is accepted, between 0 and 1; `prior` until there is experience.
  double rate(double prior = kPrior) const { return (accepted_ + prior * kPriorWeight) / (tested_ + kPriorWeight); }
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
  static constexpr double kPriorWeight = 2.0, kKeepTested = 0.85, kKeepIdle = 0.5;
  static constexpr int kRetrySteps = 32;
  void forget(double keep) {
    accepted_ *= keep;
    tested_ *= keep;
  }
  double accepted_ = 0, tested_ = 0;
  int idle_ = 0;
};

/// What a draft promises.
struct DraftWorth {
  std::int64_t length = 0;  // tokens that are worth their time
  double gain = 0;          // tokens they bring beyond those that the same time brings without them
};

/// A draft of at most `limit` tokens, 0 if none is worth making. `rate` is DraftRecord::rate; `decoding` sequences get
/// one token each in the step. A step of n rows takes 1 + row_cost * (n - 1) times as long as one of a single row. The
/// i-th draft token brings rate^i tokens; it pays if that is a larger share of the step's tokens than its time is of
/// the step's: its row, and its share of a step of the draft model, which takes `draft_cost` times as long as the
/// model's of as many rows and guesses for all of them at once. Rows of prompts do not count: they are worth what they
/// cost. In the modes that ask for drafts everywhere, the length is what is allowed.
DraftWorth draft_worth(const SpeculationOptions& options, double rate, std::int64_t decoding, std::int64_t limit,
                       double draft_cost = 0.0);

/// How long a step of the draft model takes, in steps of the model. Measured; until both have been, as their weights
/// say, which is what a step of few rows reads. Engine thread only.
class DraftCost {
 public:
  DraftCost(std::size_t model_bytes, std::size_t draft_bytes, double row_cost);
  /// A step of `rows` rows took so long. Steps of many rows are not comparable and pass without effect.
  void note_model(std::int64_t rows, double seconds) { note(&model_, rows, seconds); }
  void note_draft(std::int64_t rows, double seconds) { note(&draft_, rows, seconds); }
  double ratio() const { return model_ > 0 && draft_ > 0 ? draft_ / model_ : expected_; }

 private:
  void note(double* smoothed, std::int64_t rows, double seconds) const;
  double expected_;
  double row_cost_;
  double model_ = 0, draft_ = 0;  // seconds of a step of one row, smoothed; 0: never measured
};

}  // namespace inferd
