// Scheduler: secure blocks for what runs, admit what fits, share out the tokens of one step.
#include "engine/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/speculation/ngram_draft.h"

namespace inferd {

Scheduler::Scheduler(BlockManager& blocks, const HashKey& key, const SchedulerLimits& limits)
    : blocks_(blocks), hasher_(key), limits_(limits) {
  INFERD_CHECK(limits.max_running > 0 && limits.max_running <= limits.max_batch_tokens &&
               limits.max_running <= limits.max_logit_rows);
}

void Scheduler::insert_in_order(std::vector<std::unique_ptr<Sequence>>* list, std::unique_ptr<Sequence> sequence) {
  const auto at = std::upper_bound(list->begin(), list->end(), sequence,
                                   [](const auto& a, const auto& b) { return a->before(*b); });
  list->insert(at, std::move(sequence));
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) {
  INFERD_CHECK(blocks_for_tokens(sequence->prompt_tokens + sequence->max_outputs) <= blocks_.total());
  sequence->number = next_number_++;
  insert_in_order(&waiting_, std::move(sequence));
}

bool Scheduler::reserve_blocks(Sequence& sequence) {
  const auto needed = static_cast<std::size_t>(blocks_for_tokens(sequence.num_ahead()));
  while (sequence.blocks.size() < needed) {
    if (blocks_.available() == 0) return false;
    sequence.blocks.push_back(blocks_.allocate());
  }
  return true;
}

void Scheduler::release_blocks(Sequence& sequence) {
  // From the end: the deepest blocks of a prefix become the oldest, so that eviction never orphans a chain.
  for (auto block = sequence.blocks.rbegin(); block != sequence.blocks.rend(); ++block) blocks_.release(*block);
  sequence.blocks.clear();
  sequence.num_computed = sequence.draft_computed = sequence.published = 0;
}

void Scheduler::preempt_last() {
  std::unique_ptr<Sequence> victim = std::move(running_.back());
  running_.pop_back();
  release_blocks(*victim);
  ++victim->preemptions;
  ++preemptions_;
  preempted_now_ = true;
  insert_in_order(&waiting_, std::move(victim));
}

/// Blocks for the next token of everything that runs, first come first served; the last ones make room.
void Scheduler::secure_running() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    while (i < running_.size() && !reserve_blocks(*running_[i])) preempt_last();
  }
}

void Scheduler::extend_hashes(Sequence& sequence) const {
  if (!sequence.rooted) {
    sequence.root = hasher_.root(limits_.model_instance, limits_.kv_dtype, sequence.request.adapter,
                                 sequence.request.cache_salt, sequence.traits.kv_variant);
    sequence.rooted = true;
  }
  const std::size_t full = sequence.tokens.size() / kKvBlockTokens;
  while (sequence.hashes.size() < full) {
    const BlockHash& parent = sequence.hashes.empty() ? sequence.root : sequence.hashes.back();
    const std::span<const TokenId> tokens(sequence.tokens);
    sequence.hashes.push_back(
        hasher_.next(parent, tokens.subspan(sequence.hashes.size() * kKvBlockTokens, kKvBlockTokens)));
  }
}

bool Scheduler::try_admit(Sequence& sequence) {
  INFERD_CHECK(sequence.pending == 0);
  matched_.clear();
  std::int64_t unreferenced = 0;  // matched blocks that admission takes out of the cached ones
  if (limits_.prefix_cache && sequence.traits.shares_prefix) {
    extend_hashes(sequence);
    // The last token is always computed, for its logits; so is every token whose successor is still to be scored.
    std::int64_t reusable = sequence.num_tokens() - 1;
    if (sequence.wants_prompt_logprobs()) reusable = std::min(reusable, sequence.prompt_rows_done);
    const auto most = static_cast<std::size_t>(reusable / kKvBlockTokens);
    for (std::size_t i = 0; i < most; ++i) {
      const std::int32_t block = blocks_.find(sequence.hashes[i]);
      if (block < 0) break;
      matched_.push_back(block);
      unreferenced += blocks_.references(block) == 0 ? 1 : 0;
    }
  }
  const std::int64_t fresh = blocks_for_tokens(sequence.num_tokens()) - static_cast<std::int64_t>(matched_.size());
  // One spare block for each that runs, lest the newcomer be thrown out again a few tokens later.
  if (fresh + unreferenced + running() > blocks_.available()) return false;
  for (const std::int32_t block : matched_) {
    blocks_.share(block);
    sequence.blocks.push_back(block);
  }
  sequence.published = static_cast<std::int64_t>(matched_.size());
  sequence.num_computed = sequence.draft_computed = sequence.published * kKvBlockTokens;
  INFERD_CHECK(reserve_blocks(sequence));
  if (!sequence.started) {
    sequence.started = true;
    sequence.reserve_memory();
    if (limits_.speculation.mode != SpeculationMode::off) {
      sequence.draft.reserve(static_cast<std::size_t>(limits_.speculation.max_tokens));
      if (limits_.draft_context > 0) {
        sequence.passed.reserve(static_cast<std::size_t>(limits_.speculation.max_tokens));
      }
    }
    sequence.cached_tokens = sequence.num_computed;
  }
  return true;
}

void Scheduler::admit_waiting(std::int64_t tokens_left) {
  // What had to go in this very step does not come back in it.
  while (!preempted_now_ && !waiting_.empty() && running() < limits_.max_running && tokens_left > 0) {
    if (!try_admit(*waiting_.front())) return;
    std::unique_ptr<Sequence> sequence = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    tokens_left -= sequence->remaining();
    insert_in_order(&running_, std::move(sequence));
  }
}

/// Makes the draft that promises most, of at most `limit` tokens, or says how many tokens the draft model is to guess.
/// Returns its length. What costs the draft model nothing is preferred if it promises about as much: what a step of
/// that model takes is known by measurement only.
std::int64_t Scheduler::choose_draft(Sequence& sequence, std::int64_t decoding, std::int64_t limit, double draft_cost) {
  const SpeculationOptions& options = limits_.speculation;
  DraftWorth repeated, guessed;
  sequence.passed.clear();
  if (options.mode != SpeculationMode::draft) {
    repeated = draft_worth(options, sequence.ngram_record.rate(), decoding, limit);
    ngram_draft(sequence.tokens, repeated.length, &sequence.draft);
    if (sequence.grammar) sequence.draft.resize(sequence.grammar->fitting(sequence.draft));
    if (sequence.draft.empty()) repeated = {};
  }
  if (limits_.draft_context > 0 && options.mode != SpeculationMode::ngram) {
    // Its last guess needs the one before as a token of its context.
    const std::int64_t most = std::min(limit, limits_.draft_context - sequence.num_tokens() + 1);
    const double rate = sequence.model_record.rate(model_record_.rate(DraftRecord::kModelPrior));
    guessed = draft_worth(options, rate, decoding, most, draft_cost);
  }
  constexpr double kAboutAsMuch = 0.9;
  if (guessed.length == 0 || (repeated.length > 0 && repeated.gain >= kAboutAsMuch * guessed.gain)) {
    return static_cast<std::int64_t>(sequence.draft.size());
  }
  sequence.passed.swap(sequence.draft);
  sequence.draft.clear();
  sequence.by_model = true;
  sequence.draft_wish = guessed.length;
  return guessed.length;
}

/// Takes blocks for a draft as far as some are free. Returns the tokens of it for which there is room.
std::int64_t Scheduler::draft_room(Sequence& sequence, std::int64_t wanted) {
  const auto room = [&] {
    return static_cast<std::int64_t>(sequence.blocks.size()) * kKvBlockTokens - sequence.num_tokens();
  };
  while (room() < wanted && blocks_.available() > 0) sequence.blocks.push_back(blocks_.allocate());
  return std::min(room(), wanted);
}

/// Drafts for the sequences that decode, as long as rows are to spare and blocks are free. Nobody is preempted for one.
void Scheduler::make_drafts(std::int64_t decoding, std::int64_t spare_rows, double draft_cost) {
  bool any_by_model = false;
  for (const auto& running : running_) {
    Sequence& sequence = *running;
    if (sequence.remaining() != 1 || sequence.wants_prompt_logprobs()) continue;
    // The step yields one token beyond the draft anyway.
    const std::int64_t useful = sequence.max_outputs - sequence.num_outputs() - 1;
    const std::int64_t wanted = choose_draft(sequence, decoding, std::min(useful, spare_rows), draft_cost);
    if (sequence.draft.empty() && sequence.passed.empty()) sequence.ngram_record.note_idle();
    if (!sequence.by_model) sequence.model_record.note_idle();
    if (wanted == 0) continue;
    const std::int64_t length = draft_room(sequence, wanted);
    if (sequence.by_model) {
      sequence.draft_wish = length;
      sequence.by_model = length > 0;
      any_by_model = any_by_model || length > 0;
    } else {
      sequence.draft.resize(static_cast<std::size_t>(length));
    }
    spare_rows -= length;
  }
  if (!any_by_model) model_record_.note_idle();
}

void Scheduler::take_drafts(StepPlan* plan) {
  for (Chunk& chunk : plan->chunks) {
    Sequence& sequence = *chunk.sequence;
    const std::int64_t wished = std::exchange(sequence.draft_wish, 0);
    if (wished == 0) continue;
    const bool made = !sequence.draft.empty();
    if (sequence.grammar) sequence.draft.resize(sequence.grammar->fitting(sequence.draft));
    const std::int64_t missing = wished - static_cast<std::int64_t>(sequence.draft.size());
    INFERD_CHECK(missing >= 0 && chunk.drafted == wished);
    chunk.count -= missing;
    chunk.drafted -= missing;
    plan->num_tokens -= missing;
    plan->num_logit_rows -= missing;
    if (!sequence.draft.empty()) continue;
    if (made) sequence.model_record.note(0, wished);  // none of it may be said
    drop_draft(sequence);
  }
}

/// Forgets the draft and the blocks that only it needed. They were never published.
void Scheduler::drop_draft(Sequence& sequence) {
  sequence.draft.clear();
  sequence.passed.clear();
  sequence.draft_wish = sequence.draft_ahead = 0;
  sequence.by_model = false;
  const auto needed = static_cast<std::size_t>(blocks_for_tokens(sequence.num_tokens()));
  while (sequence.blocks.size() > needed) {
    blocks_.release(sequence.blocks.back());
    sequence.blocks.pop_back();
  }
}

void Scheduler::plan(StepPlan* plan, double draft_cost) {
  plan->chunks.clear();
  plan->num_tokens = 0;
  plan->num_logit_rows = 0;
  preempted_now_ = false;
  secure_running();
  std::int64_t wanted = 0;
  for (const auto& sequence : running_) wanted += sequence->remaining();
  admit_waiting(limits_.max_batch_tokens - wanted);
  if (limits_.speculation.mode != SpeculationMode::off) {
    std::int64_t rows = 0, decoding = 0;
    for (const auto& sequence : running_) {
      rows += sequence->remaining();
      decoding += sequence->remaining() == 1 ? 1 : 0;
    }
    make_drafts(decoding, std::min(limits_.max_logit_rows - running(), limits_.max_batch_tokens - rows), draft_cost);
  }

  bool prefilling = false;
  const auto schedule = [&](Sequence& sequence) {
    const std::int64_t rows_left = limits_.max_logit_rows - plan->num_logit_rows;
    std::int64_t room = limits_.max_batch_tokens - plan->num_tokens;
    if (sequence.unbreakable() > room) {
      // The first one in line may go beyond the budget; it would never fit otherwise.
      if (prefilling || sequence.unbreakable() > limits_.max_step_tokens - plan->num_tokens) return;
      room = sequence.unbreakable();
    }
    prefilling = prefilling || sequence.remaining() > 1;
    Chunk chunk{.sequence = &sequence, .start = sequence.num_computed};
    chunk.count = std::min(sequence.remaining(), room);
    chunk.first_logit_position = sequence.first_logit_position(chunk.start, chunk.start + chunk.count);
    chunk.drafted = static_cast<std::int64_t>(sequence.draft.size()) + sequence.draft_wish;
    chunk.count += chunk.drafted;
    if (chunk.logit_rows() > rows_left) {
      chunk.count -= chunk.logit_rows() - rows_left;
      chunk.first_logit_position = sequence.first_logit_position(chunk.start, chunk.start + chunk.count);
    }
    if (chunk.count <= 0) return;
    chunk.last = chunk.start + chunk.count - chunk.drafted >= sequence.num_ahead();
    plan->num_tokens += chunk.count;
    plan->num_logit_rows += chunk.logit_rows();
    plan->chunks.push_back(chunk);
  };
  for (const auto& sequence : running_) {
    if (sequence->remaining() == 1) schedule(*sequence);
  }
  for (const auto& sequence : running_) {
    if (sequence->remaining() > 1) schedule(*sequence);
  }
  INFERD_CHECK(plan->num_tokens <= std::max(limits_.max_batch_tokens, limits_.max_step_tokens) &&
               plan->num_logit_rows <= limits_.max_logit_rows);
  const bool ends = std::any_of(running_.begin(), running_.end(), [](const auto& s) { return s->remaining() == 0; });
  INFERD_CHECK(!plan->chunks.empty() || (running_.empty() && waiting_.empty()) || preempted_now_ || ends);
}

void Scheduler::complete(const StepPlan& plan) {
  for (const Chunk& chunk : plan.chunks) {
    if (chunk.sequence == nullptr) continue;
    advance(*chunk.sequence, chunk.start + chunk.count - chunk.drafted);
  }
}

/// Of a sequence's first tokens, those whose keys and values are complete: with a draft model also its own, as far as
/// it goes.
std::int64_t Scheduler::shareable_tokens(const Sequence& sequence) const {
  if (sequence.draft_computed >= std::min(sequence.num_computed, limits_.draft_context)) return sequence.num_computed;
  return sequence.draft_computed;
}

void Scheduler::advance(Sequence& sequence, std::int64_t num_computed) {
  sequence.num_computed = num_computed;
  if (!limits_.prefix_cache || !sequence.traits.shares_prefix) return;
  extend_hashes(sequence);
  for (const std::int64_t full = shareable_tokens(sequence) / kKvBlockTokens; sequence.published < full;) {
    const auto block = static_cast<std::size_t>(sequence.published++);
    blocks_.publish(sequence.blocks[block], sequence.hashes[block]);
  }
}

/// The repetition that the draft model was preferred to, beside the tokens that came of the step.
void Scheduler::settle_passed(Sequence& sequence) {
  const auto first = sequence.tokens.begin() + static_cast<std::ptrdiff_t>(sequence.num_computed);
  const auto known = std::min<std::ptrdiff_t>(sequence.tokens.end() - first, std::ssize(sequence.passed));
  if (known <= 0) return;
  const auto right = std::mismatch(first, first + known, sequence.passed.begin()).first - first;
  sequence.ngram_record.note(right, known);
}

void Scheduler::settle_draft(Sequence& sequence, std::int64_t accepted) {
  const auto drafted = static_cast<std::int64_t>(sequence.draft.size());
  INFERD_CHECK(accepted <= drafted && sequence.num_computed + accepted <= sequence.num_tokens());
  (sequence.by_model ? sequence.model_record : sequence.ngram_record).note(accepted, drafted);
  if (sequence.by_model) model_record_.note(accepted, drafted);
  settle_passed(sequence);
  sequence.draft_computed += std::min(accepted, sequence.draft_ahead);
  advance(sequence, sequence.num_computed + accepted);
  drop_draft(sequence);
}

void Scheduler::abandon(const StepPlan& plan) {
  for (const Chunk& chunk : plan.chunks) drop_draft(*chunk.sequence);
}

std::vector<std::unique_ptr<Sequence>> Scheduler::take_if(const std::function<bool(const Sequence&)>& leaves) {
  std::vector<std::unique_ptr<Sequence>> taken;
  for (auto* list : {&running_, &waiting_}) {
    std::erase_if(*list, [&](std::unique_ptr<Sequence>& sequence) {
      if (!leaves(*sequence)) return false;
      release_blocks(*sequence);
      taken.push_back(std::move(sequence));
      return true;
    });
  }
  return taken;
}

}  // namespace inferd
