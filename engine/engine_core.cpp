// EngineCore: set-up, requests and adapters on their way in and out.
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

SchedulerLimits scheduler_limits(const EngineOptions& options, const Model& model, std::uint64_t instance,
                                 const DraftModel* draft) {
  SchedulerLimits limits;
  limits.max_step_tokens = step_rows(options, model);
  limits.max_batch_tokens = std::max<std::int64_t>(1, options.max_batch_tokens);
  limits.max_running = effective_running(options);
  limits.max_logit_rows = logit_rows_of_step(options);
  limits.prefix_cache = options.prefix_cache;
  limits.model_instance = instance;
  limits.kv_dtype = options.kv_dtype;
  limits.speculation = options.speculation;
  limits.draft_context = draft != nullptr ? draft->context() : 0;
  return limits;
}

BatchLimits batch_limits(const EngineOptions& options, const KvPlan& plan, const Model& model, bool ahead) {
  return {step_rows(options, model),   effective_running(options), blocks_for_tokens(plan.context_length),
          logit_rows_of_step(options), model.has_places(),         ahead};
}

/// Guesses are checked on the host: where tokens are drawn on the device, they cost more than they bring.
EngineOptions options_for(EngineOptions options, const Backend& backend, const Model& model, const Model* draft) {
  check_kv_backends(options.kv_dtype, model.info().name, backend, model.host());
  SpeculationMode& mode = options.speculation.mode;
  if (mode == SpeculationMode::automatic && backend.samples(model.info().vocab_size)) mode = SpeculationMode::off;
  if (draft == nullptr) {
    if (mode == SpeculationMode::draft) mode = SpeculationMode::off;
    return options;
  }
  check_draft_model(model, *draft);
  check_kv_dtype(options.kv_dtype, draft->info().name, draft->kv_spec().head_dim);
  if (mode != SpeculationMode::automatic && mode != SpeculationMode::draft) {
    throw ConfigError("draft_model: " + draft->info().name + " would guess nothing: speculative is " +
                      (mode == SpeculationMode::ngram ? "ngram" : "off, or auto on a GPU"));
  }
  return options;
}

/// Null where tokens are sampled on the host. There a sequence's tokens all are, lest an answer depend on which of its
/// steps had room for guesses.
std::unique_ptr<DeviceSampler> make_device_sampler(const EngineOptions& options, Backend& backend, const Model& model) {
  if (!backend.samples(model.info().vocab_size) || options.speculation.mode != SpeculationMode::off) return nullptr;
  DeviceSamplerLimits limits;
  limits.vocab_size = model.info().vocab_size;
  limits.slots = effective_running(options);
  limits.rows = logit_rows_of_step(options);
  limits.context_length = options.context_length > 0 ? options.context_length : model.info().max_context;
  return std::make_unique<DeviceSampler>(backend, limits);
}

int steps_ahead(const EngineOptions& options, const DeviceSampler* sampler, const Model& model) {
  return sampler != nullptr && model.only_queues() ? std::clamp(options.steps_ahead, 0, 1) : 0;
}

KvPlan plan_caches(const EngineOptions& options, const Model& model, const Model* draft, const Backend& backend) {
  const KvSpec draft_spec = draft != nullptr ? draft->kv_spec() : KvSpec{};
  return plan_kv_cache(model.info(), model.kv_spec(), options, backend.available_bytes(),
                       model.host() != nullptr ? model.host()->available_bytes() : 0,
                       draft != nullptr ? &draft_spec : nullptr);
}

/// The pool, with a spare block behind it if steps are captured.
KvPlan with_spare(KvPlan plan, bool captures) {
  if (captures) ++plan.num_blocks;
  return plan;
}

double seconds_between(TimePoint from, TimePoint to) { return std::chrono::duration<double>(to - from).count(); }

}  // namespace

EngineCore::EngineCore(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options, const Clock& clock,
                       std::unique_ptr<Model> draft)
    : model_(std::move(model)),
      backend_(backend),
      options_(options_for(options, backend, *model_, draft.get())),
      clock_(clock),
      device_sampler_(make_device_sampler(options_, backend, *model_)),
      steps_ahead_(steps_ahead(options_, device_sampler_.get(), *model_)),
      kv_plan_(plan_caches(options_, *model_, draft.get(), backend)),
      max_running_(effective_running(options_)),
      instance_(next_model_instance()),
      captures_(backend.captures() && model_->capturable()),
      spare_block_(static_cast<std::int32_t>(kv_plan_.num_blocks)),
      cache_(backend, model_->kv_spec(), options_.kv_dtype, with_spare(kv_plan_, captures_), model_->host()),
      draft_model_(draft ? std::make_unique<DraftModel>(std::move(draft), model_->info(), backend, options_, kv_plan_,
                                                        max_running_, clock)
                         : nullptr),
      blocks_(kv_plan_.num_blocks),
      scheduler_(blocks_, HashKey::random(), scheduler_limits(options_, *model_, instance_, draft_model_.get())),
      batch_(backend, batch_limits(options_, kv_plan_, *model_, steps_ahead_ > 0)),
      sampler_(model_->info().vocab_size),
      hook_([this](int) { at_layer(); }),
      adapter_slots_(static_cast<std::size_t>(model_->max_adapters())) {
  with_draft_.reserve(static_cast<std::size_t>(options_.speculation.max_tokens + 1));
  for (Flight& flight : flights_) {
    flight.drawn_rows.reserve(static_cast<std::size_t>(max_running_));
    flight.adapters.reserve(static_cast<std::size_t>(max_running_));
  }
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
  const Request& asked = sequence->request;
  sequence->device_rules = device_sampler_ && asked.grammar == nullptr &&  // masks are the host's
                           device_sampler_->takes(asked.sampling, asked.stop_token_ids, asked.min_output_tokens);
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
  free_rules(*sequence);
  for (int nth = 0; nth < in_flight_; ++nth) {
    for (Chunk& chunk : flight(nth_in_flight(nth)).plan.chunks) {
      if (chunk.sequence == sequence.get()) chunk.sequence = nullptr;
    }
  }
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
  drop_unused_adapters();
}

void EngineCore::drop_unused_adapters() {
  const auto in_flight = [this](std::uint64_t id) {
    for (int nth = 0; nth < in_flight_; ++nth) {
      const std::vector<std::uint64_t>& used = flight(nth_in_flight(nth)).adapters;
      if (std::find(used.begin(), used.end(), id) != used.end()) return true;
    }
    return false;
  };
  for (std::size_t slot = 0; slot < adapter_slots_.size(); ++slot) {
    if (!adapter_slots_[slot].retired) continue;
    const auto uses = [id = adapter_slots_[slot].id](const auto& sequence) { return sequence->request.adapter == id; };
    const auto& running = scheduler_.running_sequences();
    const auto& waiting = scheduler_.waiting_sequences();
    if (std::any_of(running.begin(), running.end(), uses) || std::any_of(waiting.begin(), waiting.end(), uses) ||
        in_flight(adapter_slots_[slot].id)) {
      continue;
    }
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

bool EngineCore::step() {
  const bool launched = launch().has_value();
  while (in_flight_ > 0 && (!launched || in_flight_ > steps_ahead_ || !can_launch() || size() == 0)) {
    collect(Ticket{flight(oldest_).step});
  }
  return size() > 0;
}

void EngineCore::finish_all(FinishReason reason) {
  in_flight_ = 0;
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
