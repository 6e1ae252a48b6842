// TrieWalk: runs a grammar over all tokens of a vocabulary at once, along their shared beginnings.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/grammar/stacks.h"
#include "engine/grammar/token_trie.h"

namespace inferd {

/// Not thread-safe. Remembers where sets of stacks lead for as long as one run lasts, so that most steps are one look
/// into a table, and what a run gives up on does not depend on those before.
class TrieWalk {
 public:
  /// As StackMachine.
  TrieWalk(const Grammar& grammar, std::uint32_t max_depth, bool ahead)
      : machine_(grammar, max_depth, ahead), grammar_(grammar) {
    clear();
  }

  struct Found {
    std::vector<TokenId> tokens;
    std::vector<std::uint32_t> finished;  // trie nodes at which the bottom is reached and from which tokens go on
  };
  /// What can follow, from each of the trie nodes `from`, when a text is at `start`. After kMostWork, longer tokens
  /// are taken to be refused; what that does depends on the grammar and the vocabulary alone.
  void run(const TokenTrie& trie, std::span<const std::uint32_t> from, Configuration start, Found* found);

  StackMachine& machine() { return machine_; }
  /// Begins anew: to be called before the machine is used for a run.
  void clear();

 private:
  static constexpr std::uint32_t kDead = 0, kUnknown = 0xFFFFFFFF;
  static constexpr std::uint64_t kMostWork = 2'000'000;  // stacks stepped from and to
  std::uint32_t intern(Configuration at);
  std::uint32_t step(std::uint32_t from, std::uint8_t byte);

  StackMachine machine_;
  const Grammar& grammar_;
  // By number of a set of stacks that the run has met:
  std::vector<Configuration> states_;
  std::vector<std::uint32_t> next_;  // and, times num_classes, by class of byte
  std::unordered_multimap<std::uint64_t, std::uint32_t> by_hash_;
  std::uint64_t work_ = 0;
};

/// Of a list of numbers.
std::uint64_t list_hash(std::span<const std::uint32_t> list, std::uint64_t seed);

}  // namespace inferd
