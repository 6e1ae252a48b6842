// Scheduler: which tokens of which sequences the next step computes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/kv_cache/block_manager.h"
#include "engine/scheduler/sequence.h"

namespace inferd {

struct SchedulerLimits {
  std::int64_t max_batch_tokens = 512;  // rows of one step
  std::int64_t max_step_tokens = 0;     // rows of a step with a context that cannot be broken up; 0: no more
  std::int64_t max_running = 16;        // sequences in one step; ≤ max_batch_tokens and ≤ max_logit_rows
  std::int64_t max_logit_rows = 64;     // rows of one step whose logits are returned
  bool prefix_cache = true;
  std::uint64_t model_instance = 0;  // part of every block's hash
  DType kv_dtype = DType::f16;       // likewise
  SpeculationOptions speculation;
  std::int64_t draft_context = 0;  // tokens of a sequence that the draft model takes in; 0: there is none
};

/// The tokens [start, start + count) of one sequence; the last `drafted` of them are its draft, or are to
/// be (draft_wish).
struct Chunk {
  Sequence* sequence = nullptr;
  std::int64_t start = 0;
  std::int64_t count = 0;
  std::int64_t drafted = 0;
  std::int64_t first_logit_position = 0;  // logits are needed from here to start + count
  bool last = false;                      // then nothing of the sequence is left to compute: a token may be drawn
  std::int64_t logit_rows() const { return start + count - first_logit_position; }
};

/// One step. Decoding sequences come first.
struct StepPlan {
  std::vector<Chunk> chunks;
  std::int64_t num_tokens = 0;
  std::int64_t num_logit_rows = 0;
};

/// Plans may run ahead of results: between complete and the collection of what the step drew, `pending` of its
/// sequences counts the tokens on their way. Pure bookkeeping: no model, no clock, no thread. Order everywhere is
/// (priority, arrival). Every running sequence holds blocks for all its known tokens, so prefilling never waits for
/// memory half-way; when a decoding one needs a block and none is there, the last running sequence goes back to the
/// queue and is computed again later. The first one therefore always moves on, and as every request fits the pool
/// alone, all of them end. Engine thread only. Owned by EngineCore.
class Scheduler {
 public:
  Scheduler(BlockManager& blocks, const HashKey& key, const SchedulerLimits& limits);

  /// Queues a sequence. It must fit the pool alone.
  void add(std::unique_ptr<Sequence> sequence);
  /// Decides the next step; an empty plan means that nothing is there to do. `plan` is reused. `draft_cost`: time of a
  /// step of the draft model, in steps of the model.
  void plan(StepPlan* plan, double draft_cost = 0.0);
  /// The draft model has made what drafts it could: chunks shrink to them. Once after each plan, if there is one.
  void take_drafts(StepPlan* plan);
  /// The step has been computed, or will be before any later one: its keys and values are in the cache; full blocks
  /// become shareable. All its tokens are known. Drafts do not count until they are settled. Chunks without a sequence
  /// (it has left) are passed over.
  void complete(const StepPlan& plan);
  /// After complete, once for each sequence with a draft: its first `accepted` tokens have become tokens of the
  /// sequence. Blocks that only the others needed are released.
  void settle_draft(Sequence& sequence, std::int64_t accepted);
  /// The step was given up: forgets its drafts.
  void abandon(const StepPlan& plan);
  /// Takes every sequence out for which `leaves` is true; their blocks are released.
  std::vector<std::unique_ptr<Sequence>> take_if(const std::function<bool(const Sequence&)>& leaves);

  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t waiting() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::int64_t preemptions() const { return preemptions_; }
  const std::vector<std::unique_ptr<Sequence>>& running_sequences() const { return running_; }
  const std::vector<std::unique_ptr<Sequence>>& waiting_sequences() const { return waiting_; }

  /// Throws std::logic_error when tables, counts, orders or contents disagree (block_manager.h, and: written blocks
  /// are not shared, shared blocks hold the very tokens of each of their sequences).
  void check_integrity() const;

 private:
  bool reserve_blocks(Sequence& sequence);
  void secure_running();
  void preempt_last();
  void admit_waiting(std::int64_t tokens_left);
  bool try_admit(Sequence& sequence);
  void release_blocks(Sequence& sequence);
  void make_drafts(std::int64_t decoding, std::int64_t spare_rows, double draft_cost);
  std::int64_t choose_draft(Sequence& sequence, std::int64_t decoding, std::int64_t limit, double draft_cost);
  std::int64_t draft_room(Sequence& sequence, std::int64_t wanted);
  void drop_draft(Sequence& sequence);
  static void settle_passed(Sequence& sequence);
  void advance(Sequence& sequence, std::int64_t num_computed);
  std::int64_t shareable_tokens(const Sequence& sequence) const;
  void extend_hashes(Sequence& sequence) const;
  void check_sequence(const Sequence& sequence) const;
  static void insert_in_order(std::vector<std::unique_ptr<Sequence>>* list, std::unique_ptr<Sequence> sequence);

  BlockManager& blocks_;
  BlockHasher hasher_;
  SchedulerLimits limits_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::int32_t> matched_;  // scratch of try_admit
  DraftRecord model_record_;           // of the draft model in all sequences: what a new one starts from
  std::uint64_t next_number_ = 0;
  std::int64_t preemptions_ = 0;
  bool preempted_now_ = false;
};

}  // namespace inferd
