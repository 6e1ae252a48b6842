// DraftModel: one forward over the tokens it has not seen yet, then one for each further token of the drafts.
#include "engine/speculation/draft_model.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {
namespace {

BatchLimits batch_limits(const EngineOptions& options, const KvPlan& plan, std::int64_t max_running) {
  return {.max_tokens = std::max<std::int64_t>(1, options.max_batch_tokens),
          .max_sequences = max_running,
          .max_blocks = blocks_for_tokens(plan.context_length),
          .max_logit_rows = max_running};
}

bool is_stop(const Sequence& sequence, TokenId token) {
  const std::vector<TokenId>& stops = sequence.request.stop_token_ids;
  return std::find(stops.begin(), stops.end(), token) != stops.end();
}

}  // namespace

void check_draft_model(const Model& model, const Model& draft) {
  const std::string what = "draft_model: " + draft.info().name + " cannot guess for " + model.info().name + ": ";
  for (const Model* one : {&model, &draft}) {
    if (one->longest_context() > 0) {
      throw ConfigError(what + one->info().name + " (" + one->info().family + ") computes its context in one piece");
    }
  }
  if (draft.has_places()) {
    throw ConfigError(what + "its rotary embedding depends on the length of the prompt");
  }
}

DraftModel::DraftModel(std::unique_ptr<Model> draft, const ModelInfo& model, Backend& backend,
                       const EngineOptions& options, const KvPlan& plan, std::int64_t max_running, const Clock& clock)
    : model_(std::move(draft)),
      backend_(backend),
      clock_(clock),
      max_batch_tokens_(std::max<std::int64_t>(1, options.max_batch_tokens)),
      cache_(backend, model_->kv_spec(), options.kv_dtype, plan),
      batch_(backend, batch_limits(options, plan, max_running)),
      cost_(model.resident_bytes, model_->info().resident_bytes, options.speculation.row_cost) {
  guessing_.reserve(static_cast<std::size_t>(max_running));
  tokens_.reserve(static_cast<std::size_t>(max_batch_tokens_));
}

/// Appends `count` tokens of the sequence from `start` on; its draft follows its tokens.
void DraftModel::append(const Sequence& sequence, std::int64_t start, std::int64_t count) {
  tokens_.clear();
  for (std::int64_t at = start; at < start + count; ++at) {
    const TokenId token = at < sequence.num_tokens()
                              ? sequence.tokens[static_cast<std::size_t>(at)]
                              : sequence.draft[static_cast<std::size_t>(at - sequence.num_tokens())];
    tokens_.push_back(token < model_->info().vocab_size ? token : 0);  // the other model may have more rows
  }
  batch_.append(tokens_, start, sequence.blocks);
}

/// Puts what it has not seen of the step's tokens into the batch, as far as it goes. Sequences that decode without a
/// guess of its own wait until a block's worth has come together.
void DraftModel::take_in(const StepPlan& plan) {
  batch_.clear();
  guessing_.clear();
  for (const Chunk& chunk : plan.chunks) {
    Sequence& sequence = *chunk.sequence;
    const bool wished = sequence.draft_wish > 0;
    const std::int64_t known = std::min(chunk.start + chunk.count - chunk.drafted, context());
    if (wished) sequence.draft_computed = std::min(sequence.draft_computed, known - 1);
    const std::int64_t unseen = known - sequence.draft_computed;
    const std::int64_t count = std::min(unseen, max_batch_tokens_ - batch_.num_tokens());
    const bool decodes = chunk.count - chunk.drafted == 1;
    if (count <= 0 || (decodes && !wished && unseen < kKvBlockTokens)) continue;
    append(sequence, sequence.draft_computed, count);
    sequence.draft_computed += count;
    if (!wished || count < unseen) continue;
    batch_.want_logits(1);
    guessing_.push_back(&sequence);
  }
}

void DraftModel::compute(const LayerHook& hook) {
  const TimePoint start = clock_.now();
  const BatchTensors tensors = batch_.upload();
  logits_ = model_->forward(tensors, cache_.layers(), batch_.logit_rows(), hook);
  backend_.synchronize();
  cost_.note_draft(batch_.num_tokens(), std::chrono::duration<double>(clock_.now() - start).count());
}

/// Draws one more token of the sequence's draft. True if another may follow.
bool DraftModel::guess(Sequence& sequence, const std::byte* row, Sampler& sampler) {
  const std::span<float> logits = sampler.row();
  const std::size_t known = std::min(logits.size(), static_cast<std::size_t>(logits_.dim(1)));
  backend_.download(logits.data(), row, known * sizeof(float));
  std::fill(logits.begin() + static_cast<std::ptrdiff_t>(known), logits.end(), std::numeric_limits<float>::lowest());
  const std::int64_t position = sequence.num_outputs() + static_cast<std::int64_t>(sequence.draft.size());
  const bool must_go_on = position < sequence.request.min_output_tokens;
  const SampleInput input{
      .params = sequence.request.sampling,
      .counts = &sequence.counts,
      .banned = must_go_on ? std::span<const TokenId>(sequence.request.stop_token_ids) : std::span<const TokenId>(),
      .position = position};
  if (sampler.sample(input, &event_) != SampleResult::token) {
    if (sequence.draft.empty()) sequence.model_record.note(0, sequence.draft_wish);  // it has nothing to say
    return false;
  }
  sequence.draft.push_back(event_.token);
  return static_cast<std::int64_t>(sequence.draft.size()) < sequence.draft_wish && !is_stop(sequence, event_.token);
}

void DraftModel::run(const StepPlan& plan, Sampler& sampler, const LayerHook& hook) {
  take_in(plan);
  while (batch_.num_tokens() > 0) {
    compute(hook);
    const auto* row = static_cast<const std::byte*>(logits_.data);
    const std::size_t stride = static_cast<std::size_t>(logits_.row_stride) * sizeof(float);
    batch_.clear();
    std::size_t left = 0;
    for (std::size_t i = 0; i < guessing_.size(); ++i, row += stride) {
      Sequence& sequence = *guessing_[i];
      if (!guess(sequence, row, sampler)) continue;
      append(sequence, sequence.num_tokens() + sequence.draft_ahead++, 1);
      batch_.want_logits(1);
      guessing_[left++] = &sequence;
    }
    guessing_.resize(left);
  }
}

}  // namespace inferd
