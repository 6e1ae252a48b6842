// EngineCore: a step decided, put together, uploaded and queued.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/engine_core.h"

namespace inferd {
namespace {

/// Rows of the captured step for `rows` sequences; `most` is the largest.
std::int64_t captured_rows(std::int64_t rows, std::int64_t most) {
  constexpr std::int64_t kRows[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  const auto* found = std::find_if(std::begin(kRows), std::end(kRows), [rows](std::int64_t r) { return r >= rows; });
  return found == std::end(kRows) ? most : std::min(*found, most);
}

}  // namespace

/// The slot of the sequence's rules on the device, made if need be; -1: its next token is sampled on the host. That
/// depends on the request and on how many tokens there are, and on nothing else.
std::int32_t EngineCore::rules_for(Sequence& sequence) {
  const std::int64_t tokens = sequence.num_tokens() + sequence.pending;
  if (!sequence.device_rules || !device_sampler_->takes(sequence.request.sampling, tokens)) {
    free_rules(sequence);
    return -1;
  }
  if (sequence.rules_slot < 0) {
    INFERD_CHECK(sequence.pending == 0);
    sequence.rules_slot = device_sampler_->make_slot({.params = sequence.request.sampling,
                                                      .counts = sequence.counts.entries(),
                                                      .stop_ids = sequence.request.stop_token_ids,
                                                      .min_outputs = sequence.request.min_output_tokens,
                                                      .position = sequence.num_outputs(),
                                                      .top_logprobs = sequence.request.top_logprobs});
  }
  return sequence.rules_slot;
}

void EngineCore::free_rules(Sequence& sequence) {
  if (sequence.rules_slot >= 0) device_sampler_->free_slot(std::exchange(sequence.rules_slot, -1));
}

void EngineCore::free_rules_of_preempted() {
  if (std::exchange(seen_preemptions_, scheduler_.preemptions()) == scheduler_.preemptions()) return;
  for (const auto& sequence : scheduler_.waiting_sequences()) free_rules(*sequence);
}

/// Says where the token of each row of the chunk's logits is drawn. Returns the row that the device draws from, or -1.
std::int32_t EngineCore::place_draws(const Chunk& chunk, bool* needs_host) {
  const std::int64_t rows = chunk.logit_rows();
  if (rows == 0) return -1;
  Sequence& sequence = *chunk.sequence;
  const bool draws = device_sampler_ && chunk.last && sequence.will_want_output();
  const std::int32_t slot = draws ? rules_for(sequence) : -1;
  *needs_host = *needs_host || rows > 1 || slot < 0;
  if (!device_sampler_) return -1;
  for (std::int64_t row = 1; row < rows; ++row) device_sampler_->add_row(-1, -1);
  device_sampler_->add_row(slot, sequence.request.top_logprobs);
  return slot < 0 ? -1 : static_cast<std::int32_t>(device_sampler_->rows() - 1);
}

/// Has the draft model guess, where there is one.
void EngineCore::guess(StepPlan* plan) {
  if (!draft_model_) return;
  draft_model_->run(*plan, sampler_, [this](int) {
    if (progress_) progress_();
  });
  scheduler_.take_drafts(plan);
}

void EngineCore::assemble(Flight& flight) {
  constexpr TokenId kNotYetKnown = 0;
  batch_.clear();
  if (device_sampler_) device_sampler_->clear();
  flight.drawn_rows.clear();
  flight.adapters.clear();
  flight.settled = flight.needs_host = false;
  for (const Chunk& chunk : flight.plan.chunks) {
    const Sequence& sequence = *chunk.sequence;
    const std::vector<TokenId>& draft = sequence.draft;
    const bool follows = chunk.start == sequence.num_tokens();  // on what is still being computed
    std::span<const TokenId> tokens(&kNotYetKnown, 1);
    if (!follows) {
      tokens =
          std::span<const TokenId>(sequence.tokens)
              .subspan(static_cast<std::size_t>(chunk.start), static_cast<std::size_t>(chunk.count - chunk.drafted));
    }
    if (!draft.empty()) {
      with_draft_.assign(tokens.begin(), tokens.end());
      with_draft_.insert(with_draft_.end(), draft.begin(), draft.end());
      tokens = with_draft_;
    }
    INFERD_CHECK(static_cast<std::int64_t>(tokens.size()) == chunk.count);
    batch_.append(tokens, chunk.start, sequence.blocks);
    if (follows) batch_.take_drawn(sequence.drawn_row);
    if (sequence.request.adapter != 0) {
      batch_.use_adapter(slot_of(sequence.request.adapter));
      flight.adapters.push_back(sequence.request.adapter);
    }
    if (model_->has_places()) batch_.apply_places(*model_, sequence.traits);
    batch_.want_logits(chunk.logit_rows());
    flight.drawn_rows.push_back(place_draws(chunk, &flight.needs_host));
  }
}

void EngineCore::at_layer() {
  if (progress_) progress_();
  const bool wanted = std::any_of(launching_->chunks.begin(), launching_->chunks.end(),
                                  [](const Chunk& chunk) { return !chunk.sequence->stream->cancel_requested(); });
  if (!wanted) throw ForwardAbandoned{};
}

bool EngineCore::can_launch() const {
  return in_flight_ == 0 || (in_flight_ <= steps_ahead_ && !flight(nth_in_flight(in_flight_ - 1)).needs_host);
}

/// Tells the scheduler that the step's keys and values are there for whatever comes after it. All its tokens are known.
void EngineCore::settle(Flight& flight) {
  if (std::exchange(flight.settled, true)) return;
  for (const Chunk& chunk : flight.plan.chunks) {
    if (chunk.sequence == nullptr) continue;
    const Sequence& sequence = *chunk.sequence;
    totals_.prompt_tokens +=
        std::max<std::int64_t>(0, std::min(chunk.start + chunk.count, sequence.prompt_tokens) - chunk.start);
    if (sequence.preemptions == 0 && chunk.start == sequence.cached_tokens) {
      totals_.cached_prompt_tokens += sequence.cached_tokens;
    }
  }
  scheduler_.complete(flight.plan);
}

std::optional<EngineCore::Ticket> EngineCore::launch() {
  INFERD_CHECK(can_launch());
  if (in_flight_ > 0) settle(flight(nth_in_flight(in_flight_ - 1)));
  const TimePoint now = clock_.now();
  sweep(now);
  drop_unused_adapters();
  const int index = nth_in_flight(in_flight_);
  Flight& next = flight(index);
  scheduler_.plan(&next.plan, draft_model_ ? draft_model_->cost().ratio() : 0.0);
  free_rules_of_preempted();
  if (next.plan.chunks.empty()) return std::nullopt;
  for (const auto& sequence : scheduler_.running_sequences()) {
    if (!sequence->admitted) sequence->admitted = now;
  }
  guess(&next.plan);
  assemble(next);
  launching_ = &next.plan;
  const std::optional<std::uint64_t> key = round_step(next.plan);
  const BatchTensors tensors = batch_.upload();
  if (device_sampler_) device_sampler_->upload();
  const TimePoint start = draft_model_ ? clock_.now() : now;
  try {
    forward(tensors, key);
  } catch (const ForwardAbandoned&) {
    // Nothing of this step counts: the written blocks belong to cancelled requests alone and are not published.
    backend_.synchronize();
    scheduler_.abandon(next.plan);
    return std::nullopt;
  }
  if (draft_model_) {
    backend_.synchronize();
    draft_model_->cost().note_model(next.plan.num_tokens, std::chrono::duration<double>(clock_.now() - start).count());
  }
  if (device_sampler_) device_sampler_->send_back(index);
  for (std::size_t i = 0; i < next.plan.chunks.size(); ++i) {
    if (next.drawn_rows[i] < 0) continue;
    next.plan.chunks[i].sequence->drawn_row = next.drawn_rows[i];
    ++next.plan.chunks[i].sequence->pending;
  }
  next.step = totals_.steps + in_flight_++;
  return Ticket{next.step};
}

std::optional<std::uint64_t> EngineCore::round_step(const StepPlan& plan) {
  const auto decodes = [](const Chunk& chunk) {
    return chunk.count == 1 && chunk.logit_rows() == 1 && chunk.sequence->request.adapter == 0;
  };
  if (!captures_ || !std::all_of(plan.chunks.begin(), plan.chunks.end(), decodes)) return std::nullopt;
  const std::int64_t rows = captured_rows(batch_.num_tokens(), max_running_);
  constexpr TokenId kAnyToken = 0;
  for (bool first = true; batch_.num_tokens() < rows; first = false) {
    batch_.append({&kAnyToken, 1}, 0, {&spare_block_, 1});
    if (!first) batch_.keep_nothing();  // all of them read what one writes: equal bytes, but a race
    if (model_->has_places()) batch_.apply_places(*model_, {.length = 1});
    batch_.want_logits(1);
    if (device_sampler_) device_sampler_->add_row(-1, -1);
  }
  const std::int64_t width = batch_.round_shape();
  const std::uint64_t logprobs = device_sampler_ && device_sampler_->wants_logprobs() ? 1 : 0;
  return instance_ << 40 | static_cast<std::uint64_t>(rows) << 28 | logprobs << 27 | static_cast<std::uint64_t>(width);
}

/// Everything of a step that can be captured.
Tensor EngineCore::compute(const BatchTensors& tensors, bool captured) {
  if (steps_ahead_ > 0 && (captured || batch_.takes_drawn())) {
    backend_.take_tokens({tensors.tokens, batch_.sources(), device_sampler_->drawn()});
  }
  const Tensor logits = model_->forward(tensors, cache_.layers(), batch_.logit_rows(), captured ? LayerHook() : hook_);
  if (device_sampler_ && (captured || device_sampler_->draws())) device_sampler_->sample(logits);
  return logits;
}

void EngineCore::forward(const BatchTensors& tensors, std::optional<std::uint64_t> key) {
  if (!key) {
    logits_ = compute(tensors, false);
    return;
  }
  Tensor& logits = captured_logits_[*key];
  backend_.captured(*key, [&] { logits = compute(tensors, true); });
  logits_ = logits;
}

}  // namespace inferd
