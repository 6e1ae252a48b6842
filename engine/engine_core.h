// EngineCore: one decoder with its cache, scheduler and sampler; synchronous, so that tests can turn it by hand.
#pragma once

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
#include "engine/sampler/sampler.h"
#include "engine/scheduler/batch.h"
#include "engine/scheduler/scheduler.h"

namespace inferd {

/// Thrown out of a layer hook to give up a forward whose result nobody wants any more. A model lets it pass.
struct ForwardAbandoned {};

/// Everything but `check` and the constants belongs to one thread. Owned by Engine (or a test). A step is
/// launch (decide, upload, forward) and collect (sample, hand out, finish); at most one ticket is out at a time.
/// What comes out for a request depends on that request alone.
class EngineCore {
 public:
  /// Allocates everything. Throws MemoryError, ConfigError. Backend and clock outlive the core.
  EngineCore(std::unique_ptr<Model> model, Backend& backend, const EngineOptions& options, const Clock& clock);

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
  /// Ends what was cancelled or ran out of time, then computes one step. Nothing if there is nothing to compute.
  std::optional<Ticket> launch();
  /// Samples and hands out the tokens of the step.
  void collect(Ticket ticket);
  /// launch and collect; true while requests remain.
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
  void sweep(TimePoint now);
  void assemble();
  /// Makes a step that only decodes one of few shapes. Returns its key for Backend::captured; nothing for other steps.
  std::optional<std::uint64_t> round_step();
  void forward(const BatchTensors& tensors, std::optional<std::uint64_t> key);
  void at_layer();
  void collect_chunk(const Chunk& chunk, const std::byte* first_row, TimePoint now);
  bool score_prompt_rows(const Chunk& chunk, const std::byte* first_row);
  FinishReason sample_rows(const Chunk& chunk, const std::byte* row, TimePoint now);
  FinishReason sample_next(Sequence& sequence, const std::byte* row, TimePoint now);
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
  const KvPlan kv_plan_;
  const std::int64_t max_running_;
  const std::uint64_t instance_;    // among all cores ever
  const bool captures_;             // steps that only decode are captured
  const std::int32_t spare_block_;  // behind the scheduler's; where rows that fill a captured step up write
  KvCache cache_;
  BlockManager blocks_;
  Scheduler scheduler_;
  Batch batch_;
  Sampler sampler_;
  StepPlan plan_;
  std::vector<TokenId> with_draft_;  // scratch of assemble
  LayerHook hook_;
  Tensor logits_;
  std::map<std::uint64_t, Tensor> captured_logits_;  // by key
  bool in_flight_ = false;
  std::vector<std::pair<const Sequence*, FinishReason>> ended_;  // in this step
  std::vector<AdapterSlot> adapter_slots_;                       // as the model's
  std::function<void()> progress_;
  DecoderStats totals_;
};

}  // namespace inferd
