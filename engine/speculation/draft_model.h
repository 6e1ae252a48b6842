// DraftModel: a smaller model that guesses the next tokens of another one's sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/models/model.h"
#include "engine/options.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler/batch.h"
#include "engine/scheduler/scheduler.h"
#include "engine/speculation/draft_policy.h"

namespace inferd {

/// Throws ConfigError if `draft` cannot guess for `model`: if either computes contexts in one piece (ChatGLM-6B), or
/// where a token of the draft stands depends on more than its position.
void check_draft_model(const Model& model, const Model& draft);

/// It has a cache of its own, whose blocks go by the same numbers as the other model's and belong to the same
/// sequences; Sequence::draft_computed says how far it is. What it guesses never changes an answer. Engine thread only.
/// Owned by EngineCore.
class DraftModel {
 public:
  /// Allocates everything, as many blocks as `plan` says. Throws MemoryError. `model`: that it guesses for. Backend and
  /// clock outlive it.
  DraftModel(std::unique_ptr<Model> draft, const ModelInfo& model, Backend& backend, const EngineOptions& options,
             const KvPlan& plan, std::int64_t max_running, const Clock& clock);

  /// Takes in the tokens of the step, then guesses draft_wish tokens after each sequence that has such a wish, or
  /// fewer. All sequences are guessed for at once. A token is drawn as its request would draw it there, by the same
  /// random number: what both models think likely, both then are likely to draw. `sampler` is the other model's.
  void run(const StepPlan& plan, Sampler& sampler, const LayerHook& hook);

  /// Tokens of a sequence that it can take in.
  std::int64_t context() const { return model_->info().max_context; }
  const ModelInfo& info() const { return model_->info(); }
  DraftCost& cost() { return cost_; }
  const DraftCost& cost() const { return cost_; }

 private:
  void take_in(const StepPlan& plan);
  void append(const Sequence& sequence, std::int64_t start, std::int64_t count);
  void compute(const LayerHook& hook);
  bool guess(Sequence& sequence, const std::byte* row, Sampler& sampler);

  const std::unique_ptr<Model> model_;
  Backend& backend_;
  const Clock& clock_;
  const std::int64_t max_batch_tokens_;
  KvCache cache_;
  Batch batch_;
  DraftCost cost_;
  Tensor logits_;
  std::vector<Sequence*> guessing_;  // whose rows' logits are those of the batch, in turn
  std::vector<TokenId> tokens_;      // scratch of append
  TokenEvent event_;
};

}  // namespace inferd
