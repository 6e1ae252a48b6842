// EngineCore: launch and collect.
#include "engine/engine_core.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxPromptLogprobRows = 256;

std::uint64_t next_model_instance() {
  static std::atomic<std::uint64_t> instances{0};
  return ++instances;
}

std::int64_t effective_running(const EngineOptions& options) {
  return std::max<std::int64_t>(
      1, std::min({options.max_concurrent_requests, options.max_batch_tokens, options.max_logit_rows}));
}

std::int64_t logit_rows_of_step(const EngineOptions& options) {
  return std::max(effective_running(options), std::min(options.max_logit_rows, kMaxPromptLogprobRows));
}

/// Rows of the largest step: a context that cannot be broken up comes with what is decoding.
std::int64_t step_rows(const EngineOptions& options, const Model& model) {
  const std::int64_t longest = model.longest_context();
  return std::max<std::int64_t>({1, options.max_batch_tokens, longest > 0 ? longest + effective_running(options) : 0});
}

SchedulerLimits scheduler_limits(const EngineOptions& options, const Model& model, std::uint64_t instance) {
  SchedulerLimits limits;
  limits.max_step_tokens = step_rows(options, model);
  limits.max_batch_tokens = std::max<std::int64_t>(1, options.max_batch_tokens);
  limits.max_running = effective_running(options);
  limits.max_logit_rows = logit_rows_of_step(options);
  limits.prefix_cache = options.prefix_cache;
  limits.model_instance = instance;
  limits.kv_dtype = options.kv_dtype;
  limits.speculation = options.speculation;
  return limits;
}

BatchLimits batch_limits(const EngineOptions& options, const KvPlan& plan, const Model& model) {
  return {step_rows(options, model), effective_running(options), blocks_for_tokens(plan.context_length),
          logit_rows_of_step(options), model.has_places()};
}

/// Rows of the captured step for `rows` sequences; `most` is the largest.
std::int64_t captured_rows(std::int64_t rows, std::int64_t most) {
  constexpr std::int64_t kRows[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  const auto* found = std::find_if(std::begin(kRows), std::end(kRows), [rows](std::int64_t r) { return r >= rows; });
  return found == std::end(kRows) ? most : std::min(*found, most);
}

/// The pool, with a spare block behind it if steps are captured.
KvPlan with_spare(KvPlan plan, bool captures) {
  if (captures) ++plan.num_blocks;
  return plan;
}

double seconds_between(TimePoint from, TimePoint to) { return std::chrono::duration<double>(to - from).count(); }

}  // namespace

EngineCore::EngineCore(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options, const Clock& clock)
    : model_(std::move(model)),
      backend_(backend),
      options_(options),
      clock_(clock),
      kv_plan_(plan_kv_cache(model_->info(), model_->kv_spec(), options, backend.available_bytes(),
                             model_->host() != nullptr ? model_->host()->available_bytes() : 0)),
      max_running_(effective_running(options)),
      instance_(next_model_instance()),
      captures_(backend.captures() && model_->capturable()),
      spare_block_(static_cast<std::int32_t>(kv_plan_.num_blocks)),
      cache_(backend, model_->kv_spec(), options.kv_dtype, with_spare(kv_plan_, captures_), model_->host()),
      blocks_(kv_plan_.num_blocks),
      scheduler_(blocks_, HashKey::random(), scheduler_limits(options, *model_, instance_)),
      batch_(backend, batch_limits(options, kv_plan_, *model_)),
      sampler_(model_->info().vocab_size),
      hook_([this](int) { at_layer(); }),
      adapter_slots_(static_cast<std::size_t>(model_->max_adapters())) {
  with_draft_.reserve(static_cast<std::size_t>(options_.speculation.max_tokens + 1));
  totals_.kv_blocks_total = blocks_.total();
}

std::optional<Rejection> EngineCore::check(const Request& request) const {
  const std::int64_t vocab = info().vocab_size;
  const auto unknown = [vocab](TokenId token) { return token < 0 || token >= vocab; };
  if (request.prompt.empty()) return Rejection{Rejection::Kind::bad_token, vocab, -1};
  const auto prompt = static_cast<std::int64_t>(request.prompt.size());
  const std::int64_t room = request.max_output_tokens > 0 ? 1 : 0;
  if (prompt + room > context_length()) {
    return Rejection{Rejection::Kind::prompt_too_long, context_length(), prompt};
  }
  for (const TokenId token : request.prompt) {
    if (unknown(token)) return Rejection{Rejection::Kind::bad_token, vocab, token};
  }
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    if (unknown(token)) return Rejection{Rejection::Kind::bad_token, vocab, token};
  }
  if (request.prompt_logprobs >= 0 && model_->longest_context() > 0) {
    return Rejection{Rejection::Kind::no_prompt_logprobs, 0, request.prompt_logprobs};
  }
  return std::nullopt;  // stop ids beyond the vocabulary can never be sampled and do no harm
}

void EngineCore::add(Request request, std::shared_ptr<TokenStream> stream, TimePoint arrival) {
  auto sequence = std::make_unique<Sequence>(std::move(request), std::move(stream), arrival, context_length());
  sequence->traits = model_->prompt_traits(sequence->tokens);
  scheduler_.add(std::move(sequence));
}

std::variant<std::shared_ptr<TokenStream>, Rejection> EngineCore::submit(Request request) {
  if (const auto rejection = check(request)) return *rejection;
  if (size() >= capacity()) {
    return queue_full(size());
  }
  auto stream = std::make_shared<TokenStream>();
  add(std::move(request), stream, clock_.now());
  return stream;
}

void EngineCore::finish(std::unique_ptr<Sequence> sequence, FinishReason reason, TimePoint now) {
  StreamStats stats;
  stats.prompt_tokens = sequence->prompt_tokens;
  stats.cached_tokens = sequence->cached_tokens;
  stats.output_tokens = sequence->num_outputs();
  stats.queue_wait_s = seconds_between(sequence->arrival, sequence->admitted.value_or(now));
  if (sequence->admitted) {
    const bool spoke = stats.output_tokens > 0;
    stats.prefill_s = seconds_between(*sequence->admitted, spoke ? sequence->first_token : now);
    if (spoke) stats.decode_s = seconds_between(sequence->first_token, sequence->last_token);
  }
  ++totals_.finished;
  if (reason == FinishReason::cancelled) ++totals_.cancelled;
  sequence->stream->finish(reason, stats);
}

std::uint64_t EngineCore::load_adapter(const LoraAdapter& adapter) {
  static std::atomic<std::uint64_t> adapters_ever{0};
  const auto empty =
      std::find_if(adapter_slots_.begin(), adapter_slots_.end(), [](const auto& s) { return s.id == 0; });
  if (adapter_slots_.empty()) {
    throw ConfigError("adapters: this model takes none on " + backend_.name() + ": " + info().family);
  }
  if (empty == adapter_slots_.end()) {
    throw MemoryError("adapters: all " + std::to_string(adapter_slots_.size()) +
                      " slots (max_adapters) are in use; unload one first");
  }
  model_->set_adapter(static_cast<int>(empty - adapter_slots_.begin()), adapter);
  *empty = {++adapters_ever, false};
  return empty->id;
}

void EngineCore::retire_adapter(std::uint64_t id) {
  adapter_slots_[static_cast<std::size_t>(slot_of(id))].retired = true;
  if (!in_flight_) drop_unused_adapters();
}

void EngineCore::drop_unused_adapters() {
  for (std::size_t slot = 0; slot < adapter_slots_.size(); ++slot) {
    if (!adapter_slots_[slot].retired) continue;
    const auto uses = [id = adapter_slots_[slot].id](const auto& sequence) { return sequence->request.adapter == id; };
    const auto& running = scheduler_.running_sequences();
    const auto& waiting = scheduler_.waiting_sequences();
    if (std::any_of(running.begin(), running.end(), uses) || std::any_of(waiting.begin(), waiting.end(), uses))
      continue;
    model_->drop_adapter(static_cast<int>(slot));
    adapter_slots_[slot] = {};
  }
}

std::int32_t EngineCore::slot_of(std::uint64_t adapter) const {
  const auto found =
      std::find_if(adapter_slots_.begin(), adapter_slots_.end(), [&](const auto& slot) { return slot.id == adapter; });
  INFERD_CHECK(adapter != 0 && found != adapter_slots_.end());
  return static_cast<std::int32_t>(found - adapter_slots_.begin());
}

std::int64_t EngineCore::adapters() const {
  return std::count_if(adapter_slots_.begin(), adapter_slots_.end(), [](const auto& slot) { return slot.id != 0; });
}

/// Ends what was cancelled, abandoned by its reader, or is out of time.
void EngineCore::sweep(TimePoint now) {
  const auto reason_to_leave = [&](const Sequence& sequence) {
    // use_count 1: only this sequence still knows the stream, and nobody can get hold of it again.
    if (sequence.stream->cancel_requested() || sequence.stream.use_count() == 1) return FinishReason::cancelled;
    if (sequence.request.deadline && now >= *sequence.request.deadline) return FinishReason::deadline;
    if (!sequence.started && seconds_between(sequence.arrival, now) > options_.queue_wait_s) {
      return FinishReason::deadline;
    }
    return FinishReason::none;
  };
  auto leaving =
      scheduler_.take_if([&](const Sequence& sequence) { return reason_to_leave(sequence) != FinishReason::none; });
  for (auto& sequence : leaving) {
    const FinishReason reason = reason_to_leave(*sequence);
    // Between the two looks only a cancel can have come in, which is as good a reason.
    if (reason == FinishReason::deadline && !sequence->started) ++totals_.queue_timeouts;
    finish(std::move(sequence), reason, now);
  }
}

void EngineCore::assemble() {
  batch_.clear();
  for (const Chunk& chunk : plan_.chunks) {
    const std::vector<TokenId>& draft = chunk.sequence->draft;
    std::span<const TokenId> tokens =
        std::span<const TokenId>(chunk.sequence->tokens)
            .subspan(static_cast<std::size_t>(chunk.start), static_cast<std::size_t>(chunk.count - chunk.drafted));
    if (!draft.empty()) {
      with_draft_.assign(tokens.begin(), tokens.end());
      with_draft_.insert(with_draft_.end(), draft.begin(), draft.end());
      tokens = with_draft_;
    }
    batch_.append(tokens, chunk.start, chunk.sequence->blocks);
    if (chunk.sequence->request.adapter != 0) batch_.use_adapter(slot_of(chunk.sequence->request.adapter));
    if (model_->has_places()) batch_.apply_places(*model_, chunk.sequence->traits);
    batch_.want_logits(chunk.logit_rows());
  }
}

void EngineCore::at_layer() {
  if (progress_) progress_();
  const bool wanted = std::any_of(plan_.chunks.begin(), plan_.chunks.end(),
                                  [](const Chunk& chunk) { return !chunk.sequence->stream->cancel_requested(); });
  if (!wanted) throw ForwardAbandoned{};
}

std::optional<EngineCore::Ticket> EngineCore::launch() {
  INFERD_CHECK(!in_flight_);
  const TimePoint now = clock_.now();
  sweep(now);
  drop_unused_adapters();
  scheduler_.plan(&plan_);
  if (plan_.chunks.empty()) return std::nullopt;
  for (const auto& sequence : scheduler_.running_sequences()) {
    if (!sequence->admitted) sequence->admitted = now;
  }
  assemble();
  const std::optional<std::uint64_t> key = round_step();
  const BatchTensors tensors = batch_.upload();
  try {
    forward(tensors, key);
  } catch (const ForwardAbandoned&) {
    // Nothing of this step counts: the written blocks belong to cancelled requests alone and are not published.
    backend_.synchronize();
    scheduler_.abandon(plan_);
    return std::nullopt;
  }
  in_flight_ = true;
  return Ticket{totals_.steps};
}

std::optional<std::uint64_t> EngineCore::round_step() {
  const auto decodes = [](const Chunk& chunk) {
    return chunk.count == 1 && chunk.logit_rows() == 1 && chunk.sequence->request.adapter == 0;
  };
  if (!captures_ || !std::all_of(plan_.chunks.begin(), plan_.chunks.end(), decodes)) return std::nullopt;
  const std::int64_t rows = captured_rows(batch_.num_tokens(), max_running_);
  constexpr TokenId kAnyToken = 0;
  for (bool first = true; batch_.num_tokens() < rows; first = false) {
    batch_.append({&kAnyToken, 1}, 0, {&spare_block_, 1});
    if (!first) batch_.keep_nothing();  // all of them read what one writes: equal bytes, but a race
    if (model_->has_places()) batch_.apply_places(*model_, {.length = 1});
    batch_.want_logits(1);
  }
  const std::int64_t width = batch_.round_shape();
  return instance_ << 40 | static_cast<std::uint64_t>(rows) << 28 | static_cast<std::uint64_t>(width);
}

void EngineCore::forward(const BatchTensors& tensors, std::optional<std::uint64_t> key) {
  if (!key) {
    logits_ = model_->forward(tensors, cache_.layers(), batch_.logit_rows(), hook_);
    return;
  }
  Tensor& logits = captured_logits_[*key];
  backend_.captured(*key,
                    [&] { logits = model_->forward(tensors, cache_.layers(), batch_.logit_rows(), LayerHook()); });
  logits_ = logits;
}

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
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FinishReason::stop;
  return sequence.wants_output() ? FinishReason::none : FinishReason::length;
}

FinishReason EngineCore::sample_next(Sequence& sequence, const std::byte* row, TimePoint now) {
  load_row(row);
  TokenEvent event;
  const SampleInput input{.params = sequence.request.sampling,
                          .counts = &sequence.counts,
                          .banned = sequence.banned_tokens(),
                          .position = sequence.num_outputs(),
                          .top_logprobs = sequence.request.top_logprobs};
  switch (sampler_.sample(input, &event)) {
    case SampleResult::token:
      return emit(sequence, std::move(event), now);
    case SampleResult::all_banned:
      return FinishReason::stop;
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

void EngineCore::collect_chunk(const Chunk& chunk, const std::byte* first_row, TimePoint now) {
  Sequence& sequence = *chunk.sequence;
  if (!score_prompt_rows(chunk, first_row)) {
    ended_.emplace_back(&sequence, FinishReason::error);
    return;
  }
  if (sequence.remaining() > 0) return;
  if (!sequence.prompt_events.empty()) {
    sequence.stream->set_prompt_logprobs(std::exchange(sequence.prompt_events, {}));
  }
  FinishReason reason = FinishReason::length;
  if (sequence.wants_output()) reason = sample_rows(chunk, first_row, now);
  if (reason != FinishReason::none) ended_.emplace_back(&sequence, reason);
}

void EngineCore::collect(Ticket ticket) {
  INFERD_CHECK(in_flight_ && ticket.step == totals_.steps);
  in_flight_ = false;
  backend_.synchronize();
  const TimePoint now = clock_.now();
  INFERD_CHECK(plan_.num_logit_rows == 0 ||
               (logits_.dim(0) >= plan_.num_logit_rows && logits_.dim(1) == info().vocab_size));
  for (const Chunk& chunk : plan_.chunks) {
    Sequence& sequence = *chunk.sequence;
    totals_.prompt_tokens +=
        std::max<std::int64_t>(0, std::min(chunk.start + chunk.count, sequence.prompt_tokens) - chunk.start);
  }
  scheduler_.complete(plan_);
  ended_.clear();
  const auto* row = static_cast<const std::byte*>(logits_.data);
  for (const Chunk& chunk : plan_.chunks) {
    if (chunk.sequence->preemptions == 0 && chunk.start == chunk.sequence->cached_tokens) {
      totals_.cached_prompt_tokens += chunk.sequence->cached_tokens;
    }
    collect_chunk(chunk, row, now);
    row += static_cast<std::size_t>(chunk.logit_rows() * logits_.row_stride) * sizeof(float);
  }
  const auto reason_of = [this](const Sequence& sequence) {
    const auto at = std::find_if(ended_.begin(), ended_.end(), [&](const auto& end) { return end.first == &sequence; });
    return at == ended_.end() ? FinishReason::none : at->second;
  };
  if (!ended_.empty()) {
    auto leaving =
        scheduler_.take_if([&](const Sequence& sequence) { return reason_of(sequence) != FinishReason::none; });
    for (auto& sequence : leaving) {
      const FinishReason reason = reason_of(*sequence);
      finish(std::move(sequence), reason, now);
    }
  }
  ++totals_.steps;
  drop_unused_adapters();
  if (progress_) progress_();
}

bool EngineCore::step() {
  if (const auto ticket = launch()) collect(*ticket);
  return size() > 0;
}

void EngineCore::finish_all(FinishReason reason) {
  in_flight_ = false;
  const TimePoint now = clock_.now();
  for (auto& sequence : scheduler_.take_if([](const Sequence&) { return true; })) {
    finish(std::move(sequence), reason, now);
  }
  drop_unused_adapters();
}

DecoderStats EngineCore::stats() const {
  DecoderStats stats = totals_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.kv_blocks_used = blocks_.used_blocks();
  stats.kv_blocks_cached = blocks_.cached_blocks();
  stats.preemptions = scheduler_.preemptions();
  return stats;
}

}  // namespace inferd
