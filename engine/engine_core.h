// EngineCore: one decoder with its cache, scheduler and sampler; synchronous, so that tests can turn it by hand.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/kv_cache/block_manager.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/models/model.h"
#include "engine/options.h"
#include "engine/sampler/device_sampler.h"
#include "engine/sampler/sampler.h"
#include "engine/scheduler/batch.h"
#include "engine/scheduler/scheduler.h"
#include "engine/speculation/draft_model.h"

namespace inferd {

/// Thrown out of a layer hook to give up a forward whose result nobody wants any more. A model lets it pass.
struct ForwardAbandoned {};

/// Everything but `check` and the constants belongs to one thread. Owned by Engine (or a test). A step is
/// launch (decide, upload, forward, draw where the device does) and collect (sample what it does not, hand out,
/// finish). Where the device draws, a step may be launched before the one before it is collected: each sequence's
/// newest token stays there, and what was computed for a sequence that turns out to have ended is forgotten. What comes
/// out for a request depends on that request alone.
class EngineCore {
 public:
  /// Allocates everything. Throws MemoryError, ConfigError. Backend and clock outlive the core. `draft`: guesses for
  /// the model on the same backend, with the same vocabulary; or null.
  EngineCore(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options, const Clock& clock,
             std::unique_ptr<Model> draft = nullptr);

  /// Why a request cannot be served at all, if so. Thread-safe.
  std::optional<Rejection> check(const Request& request) const;
  /// Sequences that may be in here at once: running and waiting.
  std::int64_t capacity() const { return max_running_ + options_.max_queued_requests; }
  /// What is told when `present` of capacity() are taken.
  Rejection queue_full(std::int64_t present) const {
    return {Rejection::Kind::queue_full, options_.max_queued_requests, present - max_running_};
  }
  /// Takes a checked request in.
  void add(Request request, std::shared_ptr<TokenStream> stream, TimePoint arrival);
  /// check, capacity and add at once.
  std::variant<std::shared_ptr<TokenStream>, Rejection> submit(Request request);

  struct Ticket {
    std::int64_t step = 0;
  };
  /// Whether launch may be called: nothing is in flight, or one step that another can follow.
  bool can_launch() const;
  /// Ends what was cancelled or ran out of time, then computes one step. Nothing if there is nothing to compute.
  std::optional<Ticket> launch();
  /// Hands out the tokens of the oldest step in flight.
  void collect(Ticket ticket);
  /// Launches a step and collects what must be before the next launch; true while requests remain.
  bool step();
  /// Ends everything alive.
  void finish_all(FinishReason reason);

  /// Takes an adapter up, between steps; requests name it by the number returned, which is never used again. Throws
  /// CheckpointError if it does not fit the model, MemoryError also when all slots are taken.
  std::uint64_t load_adapter(const LoraAdapter& adapter);
  /// No further request will name it; it goes once the last one that does has ended.
  void retire_adapter(std::uint64_t id);
  /// Slots in use, those of retired adapters included.
  std::int64_t adapters() const;

  std::int64_t size() const { return scheduler_.running() + scheduler_.waiting(); }
  std::int64_t context_length() const { return kv_plan_.context_length; }
  const KvPlan& kv_plan() const { return kv_plan_; }
  const ModelInfo& info() const { return model_->info(); }
  DecoderStats stats() const;
  /// Called at every layer boundary and after every step.
  void on_progress(std::function<void()> callback) { progress_ = std::move(callback); }

  /// Throws std::logic_error; see Scheduler.
  void check_integrity() const { scheduler_.check_integrity(); }
  Scheduler& scheduler() { return scheduler_; }
  BlockManager& blocks() { return blocks_; }

 private:
  /// A step that has been launched and not yet collected.
  struct Flight {
    std::int64_t step = 0;
    StepPlan plan;                         // chunks whose sequence has left have none
    std::vector<std::int32_t> drawn_rows;  // of each chunk, the row its token was drawn from on the device; -1: none
    std::vector<std::uint64_t> adapters;   // that it uses
    bool settled = false;                  // the scheduler knows that it is computed
    bool needs_host = false;               // its logits are looked at on the host: no step may follow before
  };

  void sweep(TimePoint now);
  void settle(Flight& flight);
  std::int32_t place_draws(const Chunk& chunk, bool* needs_host);
  void guess(StepPlan* plan);
  void assemble(Flight& flight);
  std::int32_t rules_for(Sequence& sequence);
  void free_rules(Sequence& sequence);
  void free_rules_of_preempted();
  /// Makes a step that only decodes one of few shapes. Returns its key for Backend::captured; nothing for other steps.
  std::optional<std::uint64_t> round_step(const StepPlan& plan);
  void forward(const BatchTensors& tensors, std::optional<std::uint64_t> key);
  Tensor compute(const BatchTensors& tensors, bool captured);
  void at_layer();
  FinishReason take_drawn(Sequence& sequence, int index, std::int32_t row, TimePoint now);
  void collect_chunk(int index, std::size_t nth, const std::byte* first_row, TimePoint now);
  void finish_ended(TimePoint now);
  bool score_prompt_rows(const Chunk& chunk, const std::byte* first_row);
  FinishReason sample_rows(const Chunk& chunk, const std::byte* row, TimePoint now);
  FinishReason sample_next(Sequence& sequence, const std::byte* row, TimePoint now);
  FinishReason hand_out(Sequence& sequence, SampleResult result, TokenEvent event, TimePoint now);
  FinishReason emit(Sequence& sequence, TokenEvent event, TimePoint now);
  void load_row(const std::byte* device_row);
  void drop_unused_adapters();
  std::int32_t slot_of(std::uint64_t adapter) const;
  void finish(std::unique_ptr<Sequence> sequence, FinishReason reason, TimePoint now);

  struct AdapterSlot {
    std::uint64_t id = 0;  // 0: empty
    bool retired = false;
  };

  const std::unique_ptr<Model> model_;
  Backend& backend_;
  const EngineOptions options_;
  const Clock& clock_;
  const std::unique_ptr<DeviceSampler> device_sampler_;  // or null: tokens are sampled on the host
  const int steps_ahead_;                                // 0 without device_sampler_
  const KvPlan kv_plan_;
  const std::int64_t max_running_;
  const std::uint64_t instance_;    // among all cores ever
  const bool captures_;             // steps that only decode are captured
  const std::int32_t spare_block_;  // behind the scheduler's; where rows that fill a captured step up write
  KvCache cache_;
  const std::unique_ptr<DraftModel> draft_model_;  // or null
  BlockManager blocks_;
  Scheduler scheduler_;
  Batch batch_;
  Sampler sampler_;
  static constexpr int kMaxInFlight = DeviceSampler::kCopies;
  std::array<Flight, kMaxInFlight> flights_;  // in turn; those in flight start at oldest_
  int oldest_ = 0;
  int in_flight_ = 0;
  int nth_in_flight(int nth) const { return (oldest_ + nth) % kMaxInFlight; }
  Flight& flight(int index) { return flights_[static_cast<std::size_t>(index)]; }
  const Flight& flight(int index) const { return flights_[static_cast<std::size_t>(index)]; }
  const StepPlan* launching_ = nullptr;  // for at_layer
  std::int64_t seen_preemptions_ = 0;
  std::vector<TokenId> with_draft_;  // scratch of assemble
  LayerHook hook_;
  Tensor logits_;
  std::map<std::uint64_t, Tensor> captured_logits_;              // by key
  std::vector<std::pair<const Sequence*, FinishReason>> ended_;  // in this step
  std::vector<AdapterSlot> adapter_slots_;                       // as the model's
  std::function<void()> progress_;
  DecoderStats totals_;
};

}  // namespace inferd
