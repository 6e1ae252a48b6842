// StackMachine: closures over everything that takes no byte, and steps over one.
#include "engine/grammar/stacks.h"

#include <algorithm>

namespace inferd {
namespace {

constexpr std::size_t kFirstSlots = 256;

}  // namespace

StackMachine::StackMachine(const Grammar& grammar, std::uint32_t max_depth, bool ahead)
    : grammar_(&grammar), max_depth_(max_depth), ahead_(ahead) {
  clear();
}

void StackMachine::clear() {
  frames_.assign(1, StackFrame{});
  table_.assign(kFirstSlots, 0);
  seen_.assign(1, 0);
  round_ = 0;
}

std::size_t StackMachine::slot_of(GrammarNodeId node, std::uint32_t count, StackId below) const {
  std::uint64_t hash = (std::uint64_t{node} << 32 | below) * 0x9E3779B97F4A7C15ull;
  hash = (hash ^ hash >> 29 ^ count) * 0xBF58476D1CE4E5B9ull;
  std::size_t slot = (hash ^ hash >> 32) & (table_.size() - 1);
  for (; table_[slot] != 0; slot = (slot + 1) & (table_.size() - 1)) {
    const StackFrame& frame = frames_[table_[slot]];
    if (frame.node == node && frame.count == count && frame.below == below) break;
  }
  return slot;
}

void StackMachine::grow_table() {
  table_.assign(table_.size() * 2, 0);
  for (StackId id = 1; id < frames_.size(); ++id) {
    table_[slot_of(frames_[id].node, frames_[id].count, frames_[id].below)] = id;
  }
}

StackId StackMachine::push(GrammarNodeId node, std::uint32_t count, StackId below) {
  std::size_t slot = slot_of(node, count, below);
  if (table_[slot] != 0) return table_[slot];
  if (frames_.size() * 2 > table_.size()) {
    grow_table();
    slot = slot_of(node, count, below);
  }
  table_[slot] = static_cast<StackId>(frames_.size());
  frames_.push_back({node, count, below, frames_[below].depth + 1});
  seen_.push_back(0);
  return table_[slot];
}

/// Puts a node on the list of what is to be expanded, once, if there is a way on from it.
void StackMachine::open(GrammarNodeId node, std::uint32_t count, StackId below) {
  const std::uint32_t need = grammar_->nodes[node].need;
  const std::uint32_t depth = frames_[below].depth + 1;
  if (need == kUnlimited || depth + (ahead_ ? need : 0) > max_depth_ || work_.size() >= 4 * kMaxStacks) return;
  const StackId id = push(node, count, below);
  if (seen_[id] == round_) return;
  seen_[id] = round_;
  work_.push_back(id);
}

void StackMachine::expand(StackId stack) {
  const StackFrame frame = frames_[stack];
  const GrammarNode& node = grammar_->nodes[frame.node];
  switch (node.kind) {
    case GrammarNode::Kind::match:
      break;
    case GrammarNode::Kind::accept:
      if (frame.below == 0) {
        finished_ = true;
      } else {
        const StackFrame back = frames_[frame.below];
        open(back.node, back.count, back.below);
      }
      break;
    case GrammarNode::Kind::split:
      for (std::uint32_t i = 0; i < node.count; ++i) open(grammar_->targets[node.first + i], 0, frame.below);
      break;
    case GrammarNode::Kind::call:
      open(node.body, 0, push(node.next, 0, frame.below));
      break;
    case GrammarNode::Kind::repeat:
      if (frame.count < node.max) {
        // Without an upper limit it is enough to know that the lower one was met.
        const std::uint32_t count = node.max == kUnlimited ? std::min(frame.count + 1, node.min) : frame.count + 1;
        open(node.body, 0, push(frame.node, count, frame.below));
      }
      if (frame.count >= node.min) open(node.next, 0, frame.below);
      break;
  }
}

void StackMachine::close(Configuration* out) {
  for (std::size_t i = 0; i < work_.size(); ++i) {
    expand(work_[i]);
    if (grammar_->nodes[frames_[work_[i]].node].kind != GrammarNode::Kind::match) continue;
    if (out->stacks.size() < kMaxStacks) out->stacks.push_back(work_[i]);
  }
  out->finished = finished_;
  std::sort(out->stacks.begin(), out->stacks.end());
}

Configuration StackMachine::enter(GrammarNodeId node, std::uint32_t count, StackId below) {
  Configuration out;
  work_.clear();
  finished_ = false;
  ++round_;
  open(node, count, below);
  close(&out);
  return out;
}

Configuration StackMachine::step(const Configuration& from, std::uint8_t byte) {
  Configuration out;
  work_.clear();
  finished_ = false;
  ++round_;
  for (const StackId stack : from.stacks) {
    const StackFrame frame = frames_[stack];
    const GrammarNode& node = grammar_->nodes[frame.node];
    for (std::uint32_t i = 0; i < node.count; ++i) {
      const Grammar::Edge& edge = grammar_->edges[node.first + i];
      if (byte >= edge.bytes.lo && byte <= edge.bytes.hi) open(edge.target, 0, frame.below);
    }
  }
  close(&out);
  return out;
}

}  // namespace inferd
