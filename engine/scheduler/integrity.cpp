// Scheduler::check_integrity: what must hold between any two steps.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/scheduler/scheduler.h"

namespace inferd {
namespace {

[[noreturn]] void fail(const Sequence& sequence, const std::string& what) {
  throw std::logic_error("scheduler: request " + std::to_string(sequence.number) + ": " + what);
}

}  // namespace

void Scheduler::check_sequence(const Sequence& sequence) const {
  if (sequence.num_computed < 0 || sequence.num_computed > sequence.num_tokens()) {
    fail(sequence, "computed " + std::to_string(sequence.num_computed) + " of " +
                       std::to_string(sequence.num_tokens()) + " tokens");
  }
  if (sequence.draft_computed < 0 || sequence.draft_computed > sequence.num_tokens()) {
    fail(sequence, "the draft model computed " + std::to_string(sequence.draft_computed) + " of " +
                       std::to_string(sequence.num_tokens()) + " tokens");
  }
  const auto blocks = static_cast<std::int64_t>(sequence.blocks.size());
  if (sequence.num_computed > 0 && sequence.num_computed < sequence.traits.context)
    fail(sequence, "its context was broken up");
  if (blocks < blocks_for_tokens(sequence.num_computed)) fail(sequence, "computed tokens lie outside its block table");
  const auto drafted = static_cast<std::int64_t>(sequence.draft.size());
  if (blocks > blocks_for_tokens(sequence.num_ahead() + drafted))
    fail(sequence, "holds more blocks than it has tokens for");
  if (sequence.prompt_tokens + sequence.max_outputs > blocks_.total() * kKvBlockTokens) fail(sequence, "can never fit");
  std::vector<std::int32_t> sorted = sequence.blocks;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) fail(sequence, "holds a block twice");

  BlockHash hash = hasher_.root(limits_.model_instance, limits_.kv_dtype, sequence.request.adapter,
                                sequence.request.cache_salt, sequence.traits.kv_variant);
  for (std::size_t i = 0; i < sequence.blocks.size(); ++i) {
    const std::int32_t block = sequence.blocks[i];
    const BlockHash* published = blocks_.published_hash(block);
    const bool computed = static_cast<std::int64_t>(i + 1) * kKvBlockTokens <= shareable_tokens(sequence);
    if (!computed) {
      if (blocks_.references(block) != 1) fail(sequence, "shares a block that will be written");
      if (published != nullptr) fail(sequence, "a block that will be written is published");
      continue;
    }
    if (!sequence.traits.shares_prefix && published != nullptr) fail(sequence, "shares what is its own");
    hash = hasher_.next(hash, std::span(sequence.tokens).subspan(i * kKvBlockTokens, kKvBlockTokens));
    if (published != nullptr && *published != hash) fail(sequence, "a shared block holds other tokens");
    if (published == nullptr && blocks_.references(block) != 1) fail(sequence, "shares an unpublished block");
  }
}

void Scheduler::check_integrity() const {
  std::vector<int> references(static_cast<std::size_t>(blocks_.total()), 0);
  for (const auto& sequence : running_) {
    for (const std::int32_t block : sequence->blocks) {
      if (block < 0 || block >= blocks_.total()) fail(*sequence, "its table names a block that does not exist");
      ++references[static_cast<std::size_t>(block)];
    }
  }
  blocks_.check_integrity(references);
  for (const auto& sequence : running_) check_sequence(*sequence);
  for (const auto& sequence : waiting_) {
    if (!sequence->blocks.empty() || sequence->num_computed != 0) fail(*sequence, "waits but holds blocks");
  }
  const auto in_order = [](const auto& a, const auto& b) { return a->before(*b); };
  if (!std::is_sorted(running_.begin(), running_.end(), in_order) ||
      !std::is_sorted(waiting_.begin(), waiting_.end(), in_order)) {
    throw std::logic_error("scheduler: a queue is out of order");
  }
  if (running() > limits_.max_running) throw std::logic_error("scheduler: more sequences run than may");
}

}  // namespace inferd
