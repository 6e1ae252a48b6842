// TrieWalk: depth-first over the trie, with the set of stacks of each beginning on the way.
#include "engine/grammar/trie_walk.h"

#include <array>
#include <utility>

namespace inferd {

std::uint64_t list_hash(std::span<const std::uint32_t> list, std::uint64_t seed) {
  std::uint64_t hash = seed ^ list.size();
  for (const std::uint32_t item : list) {
    hash = (hash ^ item) * 0x9E3779B97F4A7C15ull;
    hash ^= hash >> 32;
  }
  return hash;
}

void TrieWalk::clear() {
  machine_.clear();
  states_.assign(1, {});
  next_.assign(grammar_.num_classes, kDead);
  by_hash_.clear();
  work_ = 0;
}

std::uint32_t TrieWalk::intern(Configuration at) {
  if (at.dead()) return kDead;
  const std::uint64_t hash = list_hash(at.stacks, at.finished ? 1 : 0);
  for (auto [it, end] = by_hash_.equal_range(hash); it != end; ++it) {
    const Configuration& known = states_[it->second];
    if (known.finished == at.finished && known.stacks == at.stacks) return it->second;
  }
  const auto number = static_cast<std::uint32_t>(states_.size());
  states_.push_back(std::move(at));
  next_.resize(next_.size() + grammar_.num_classes, kUnknown);
  by_hash_.emplace(hash, number);
  return number;
}

/// Where a byte leads that the run has not met here yet.
std::uint32_t TrieWalk::step(std::uint32_t from, std::uint8_t byte) {
  Configuration at = machine_.step(states_[from], byte);
  work_ += 1 + states_[from].stacks.size() + at.stacks.size();
  const std::uint32_t to = intern(std::move(at));
  next_[from * grammar_.num_classes + grammar_.byte_classes[byte]] = to;
  return to;
}

void TrieWalk::run(const TokenTrie& trie, std::span<const std::uint32_t> from, Configuration start, Found* found) {
  const std::vector<TokenTrie::Node>& nodes = trie.nodes();
  std::array<std::uint32_t, TokenTrie::kMostBytes + 1> path{};
  const std::uint32_t first = intern(std::move(start));
  if (states_[first].finished) found->finished.assign(from.begin(), from.end());
  for (const std::uint32_t begin : from) {
    path[nodes[begin].depth] = first;
    for (std::uint32_t i = begin + 1; i < nodes[begin].end;) {
      const TokenTrie::Node& node = nodes[i];
      const std::uint32_t before = path[node.depth - 1u];
      std::uint32_t state = next_[before * grammar_.num_classes + grammar_.byte_classes[node.byte]];
      if (state == kUnknown) state = work_ > kMostWork && node.depth > 1 ? kDead : step(before, node.byte);
      if (state == kDead) {
        i = node.end;
        continue;
      }
      for (const TokenId* token = trie.tokens_begin(i); token != trie.tokens_end(i); ++token) {
        found->tokens.push_back(*token);
      }
      path[node.depth] = state;
      const bool goes_on = node.end > i + 1;
      if (goes_on && states_[state].finished) found->finished.push_back(i);
      i = goes_on && states_[state].stacks.empty() ? node.end : i + 1;
    }
  }
}

}  // namespace inferd
