// StackMachine: runs a grammar over bytes, on all stacks that a text may have led to at once.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/grammar/grammar.h"

namespace inferd {

/// Names a frame and all beneath it. 0: the bottom, beneath which nothing is known.
using StackId = std::uint32_t;

/// Where a text may be in a grammar: stacks (rising ids) whose top frame is a match node, and whether the text may
/// also end here, which is to say that the bottom was reached.
struct Configuration {
  std::vector<StackId> stacks;
  bool finished = false;
  bool dead() const { return stacks.empty() && !finished; }
};

/// A node that waits on a stack. `count`: how often a repeat node's rule has been entered.
struct StackFrame {
  GrammarNodeId node = 0;
  std::uint32_t count = 0;
  StackId below = 0;
  std::uint32_t depth = 0;  // 1: on the bottom
};

/// Stacks beyond this many at once are dropped, deterministically. What is left can still be completed.
constexpr std::size_t kMaxStacks = 8192;

/// Not thread-safe. Equal stacks have equal ids, until clear().
class StackMachine {
 public:
  /// Stacks deeper than `max_depth` are dropped; with `ahead`, also those that would have to become so.
  StackMachine(const Grammar& grammar, std::uint32_t max_depth, bool ahead);

  /// Where a text may be before its first byte, with `node` on the stack `below`.
  Configuration enter(GrammarNodeId node, std::uint32_t count, StackId below);
  Configuration step(const Configuration& from, std::uint8_t byte);
  const StackFrame& frame(StackId stack) const { return frames_[stack]; }
  StackId push(GrammarNodeId node, std::uint32_t count, StackId below);
  std::size_t size() const { return frames_.size(); }
  void clear();

 private:
  void open(GrammarNodeId node, std::uint32_t count, StackId below);
  void expand(StackId stack);
  void close(Configuration* out);
  void grow_table();
  std::size_t slot_of(GrammarNodeId node, std::uint32_t count, StackId below) const;

  const Grammar* grammar_;
  std::uint32_t max_depth_;
  bool ahead_;
  std::vector<StackFrame> frames_;
  std::vector<StackId> table_;  // open addressing; 0: empty
  std::vector<std::uint32_t> seen_;
  std::uint32_t round_ = 0;
  std::vector<StackId> work_;
  bool finished_ = false;
};

}  // namespace inferd
