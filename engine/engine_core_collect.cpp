// EngineCore: what a step yields, handed out.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/engine_core.h"

namespace inferd {

void EngineCore::load_row(const std::byte* device_row) {
  const std::span<float> row = sampler_.row();
  backend_.download(row.data(), device_row, row.size_bytes());
}

/// Scores the prompt tokens that follow the chunk's rows. False when a row is not finite.
bool EngineCore::score_prompt_rows(const Chunk& chunk, const std::byte* first_row) {
  Sequence& sequence = *chunk.sequence;
  const std::size_t stride = static_cast<std::size_t>(logits_.row_stride) * sizeof(float);
  for (std::int64_t at = chunk.first_logit_position; at < chunk.start + chunk.count; ++at) {
    if (!sequence.wants_prompt_logprobs()) break;
    INFERD_CHECK(at == sequence.prompt_rows_done);
    load_row(first_row + static_cast<std::size_t>(at - chunk.first_logit_position) * stride);
    TokenEvent event;
    const TokenId next = sequence.tokens[static_cast<std::size_t>(at + 1)];
    if (!sampler_.score(next, sequence.request.prompt_logprobs, &event)) return false;
    sequence.prompt_events.push_back(std::move(event));
    ++sequence.prompt_rows_done;
  }
  return true;
}

FinishReason EngineCore::emit(Sequence& sequence, TokenEvent event, TimePoint now) {
  const TokenId token = event.token;
  if (sequence.num_outputs() == 0) sequence.first_token = now;
  sequence.last_token = now;
  sequence.tokens.push_back(token);
  if (has_penalties(sequence.request.sampling)) sequence.counts.add_output(token);
  ++totals_.output_tokens;
  sequence.stream->push(std::move(event));
  const auto& stops = sequence.request.stop_token_ids;
  const bool fits = !sequence.grammar || sequence.grammar->accept(token);
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FinishReason::stop;
  if (!fits) return FinishReason::error;
  return sequence.wants_output() ? FinishReason::none : FinishReason::length;
}

FinishReason EngineCore::sample_next(Sequence& sequence, const std::byte* row, TimePoint now) {
  load_row(row);
  TokenEvent event;
  const SampleInput input{.params = sequence.request.sampling,
                          .counts = &sequence.counts,
                          .banned = sequence.banned_tokens(),
                          .allowed = sequence.allowed_tokens(),
                          .position = sequence.num_outputs(),
                          .top_logprobs = sequence.request.top_logprobs};
  const SampleResult result = sampler_.sample(input, &event);
  return hand_out(sequence, result, std::move(event), now);
}

FinishReason EngineCore::hand_out(Sequence& sequence, SampleResult result, TokenEvent event, TimePoint now) {
  switch (result) {
    case SampleResult::token:
      return emit(sequence, std::move(event), now);
    case SampleResult::all_banned:
      return sequence.grammar && !sequence.grammar->complete() ? FinishReason::blocked : FinishReason::stop;
    case SampleResult::not_finite:
      break;
  }
  return FinishReason::error;
}

/// Samples after the sequence's last token, then after each draft token for as long as the draft says what was sampled.
/// Each token is drawn from its own position's logits with its own random number, as if there had been no draft.
FinishReason EngineCore::sample_rows(const Chunk& chunk, const std::byte* row, TimePoint now) {
  Sequence& sequence = *chunk.sequence;
  const std::size_t stride = static_cast<std::size_t>(logits_.row_stride) * sizeof(float);
  row += static_cast<std::size_t>(chunk.logit_rows() - 1 - chunk.drafted) * stride;
  FinishReason reason = FinishReason::none;
  std::int64_t accepted = 0;
  for (;; row += stride) {
    const std::int64_t before = sequence.num_tokens();
    reason = sample_next(sequence, row, now);
    const bool guessed = accepted < chunk.drafted && sequence.num_tokens() > before &&
                         sequence.tokens.back() == sequence.draft[static_cast<std::size_t>(accepted)];
    if (!guessed) break;
    ++accepted;
    if (reason != FinishReason::none) break;
  }
  if (chunk.drafted == 0) return reason;
  ++totals_.drafts;
  totals_.draft_tokens += chunk.drafted;
  totals_.accepted_draft_tokens += accepted;
  scheduler_.settle_draft(sequence, accepted);
  return reason;
}

/// A token that the device drew.
FinishReason EngineCore::take_drawn(Sequence& sequence, int index, std::int32_t row, TimePoint now) {
  INFERD_CHECK(sequence.pending > 0);
  --sequence.pending;
  TokenEvent event;
  const SampleResult result = device_sampler_->read(index, row, sequence.request.top_logprobs, &event);
  return hand_out(sequence, result, std::move(event), now);
}

void EngineCore::collect_chunk(int index, std::size_t nth, const std::byte* first_row, TimePoint now) {
  const Chunk& chunk = flight(index).plan.chunks[nth];
  const std::int32_t drawn_row = flight(index).drawn_rows[nth];
  Sequence& sequence = *chunk.sequence;
  if (!score_prompt_rows(chunk, first_row)) {
    ended_.emplace_back(&sequence, FinishReason::error);
    return;
  }
  if (!chunk.last) return;
  if (!sequence.prompt_events.empty()) {
    sequence.stream->set_prompt_logprobs(std::exchange(sequence.prompt_events, {}));
  }
  FinishReason reason = FinishReason::length;
  if (drawn_row >= 0) {
    reason = take_drawn(sequence, index, drawn_row, now);
  } else if (sequence.wants_output()) {
    reason = sample_rows(chunk, first_row, now);
  }
  if (reason != FinishReason::none) ended_.emplace_back(&sequence, reason);
}

void EngineCore::finish_ended(TimePoint now) {
  if (ended_.empty()) return;
  const auto reason_of = [this](const Sequence& sequence) {
    const auto at = std::find_if(ended_.begin(), ended_.end(), [&](const auto& end) { return end.first == &sequence; });
    return at == ended_.end() ? FinishReason::none : at->second;
  };
  auto leaving =
      scheduler_.take_if([&](const Sequence& sequence) { return reason_of(sequence) != FinishReason::none; });
  for (auto& sequence : leaving) {
    const FinishReason reason = reason_of(*sequence);
    finish(std::move(sequence), reason, now);
  }
}

void EngineCore::collect(Ticket ticket) {
  const int index = oldest_;
  Flight& landed = flight(index);
  INFERD_CHECK(in_flight_ > 0 && ticket.step == landed.step && (in_flight_ == 1 || !landed.needs_host));
  if (device_sampler_) device_sampler_->receive(index);
  if (!device_sampler_ || landed.needs_host) backend_.synchronize();
  const TimePoint now = clock_.now();
  INFERD_CHECK(!landed.needs_host ||
               (logits_.dim(0) >= landed.plan.num_logit_rows && logits_.dim(1) == info().vocab_size));
  settle(landed);
  oldest_ = nth_in_flight(1);
  --in_flight_;
  ended_.clear();
  const auto* row = static_cast<const std::byte*>(logits_.data);
  for (std::size_t nth = 0; nth < landed.plan.chunks.size(); ++nth) {
    const Chunk& chunk = landed.plan.chunks[nth];
    if (chunk.sequence != nullptr) collect_chunk(index, nth, row, now);
    row += static_cast<std::size_t>(chunk.logit_rows() * logits_.row_stride) * sizeof(float);
  }
  finish_ended(now);
  ++totals_.steps;
  drop_unused_adapters();
  if (progress_) progress_();
}

}  // namespace inferd
