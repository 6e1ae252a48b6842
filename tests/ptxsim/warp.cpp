// The warp: divergence, reconvergence, barriers and collectives.
#include "tests/ptxsim/warp.h"

#include <algorithm>
#include <bit>
#include <climits>

namespace inferd::ptxsim {
namespace {
constexpr size_t kNone = SIZE_MAX;
}  // namespace

Warp::Warp(Block& b, int warp_id, LaneMask lanes) : block(&b), id(warp_id), exist(lanes), live(lanes) {
  // Registers hold a pattern, not zeros, so that a kernel that forgets to set one is seen.
  reg32.assign(size_t(kernel().num_reg32) * kWarpSize, 0xcdcdcdcdu);
  reg64.assign(size_t(kernel().num_reg64) * kWarpSize, 0xcdcdcdcdcdcdcdcdull);
  predicates.assign(size_t(kernel().num_predicates), 0);
}

void Warp::restart() {
  live = exist;
  groups.assign(1, {0, exist, LaneGroup::Wait::none});
  for (CopyQueue& queue : copies) {
    queue.copies.clear();
    queue.committed = 0;
  }
  ++clock;
}

void Warp::fail(Violation::Kind kind, const Instruction& ins, int lane, const std::string& what) const {
  const Dim3& b = block->id;
  throw Violation(kind, kernel().name + " " + kernel().describe(ins) + ": block (" + std::to_string(b.x) + "," +
                            std::to_string(b.y) + "," + std::to_string(b.z) + ") thread " +
                            std::to_string(id * kWarpSize + lane) + ": " + what);
}

bool Warp::waits_at_barrier() const {
  return std::any_of(groups.begin(), groups.end(),
                     [](const LaneGroup& g) { return g.wait == LaneGroup::Wait::barrier; });
}

bool Warp::runnable() const {
  return std::any_of(groups.begin(), groups.end(), [](const LaneGroup& g) { return g.wait == LaneGroup::Wait::none; });
}

// Groups that met at an instruction go on as one; one that waited for others there looks again.
void Warp::merge_groups() {
  for (size_t i = 0; i < groups.size(); ++i) {
    for (size_t j = i + 1; j < groups.size();) {
      const bool blocked = groups[i].wait == LaneGroup::Wait::barrier || groups[j].wait == LaneGroup::Wait::barrier;
      if (groups[i].pc == groups[j].pc && !blocked) {
        groups[i].lanes |= groups[j].lanes;
        groups[i].wait = LaneGroup::Wait::none;
        groups.erase(groups.begin() + std::ptrdiff_t(j));
      } else {
        ++j;
      }
    }
  }
}

// The group furthest behind goes first: so the others can catch up where the paths join again.
size_t Warp::pick_group() {
  if (groups.size() > 1) merge_groups();
  size_t best = kNone;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].wait != LaneGroup::Wait::none) continue;
    if (best == kNone || groups[i].pc < groups[best].pc) best = i;
  }
  return best;
}

void Warp::run(uint64_t budget) {
  while (!groups.empty()) {
    const size_t group = pick_group();
    if (group == kNone) {
      if (waits_at_barrier()) return;
      const LaneGroup& stuck = groups.front();
      const Instruction& ins = kernel().code[size_t(stuck.pc)];
      fail(Violation::Kind::divergence, ins, std::countr_zero(stuck.lanes),
           "not all lanes it needs come here: the warp's lanes wait for each other at different instructions");
    }
    int meeting = INT_MAX;  // the next instruction where another group stands
    for (size_t i = 0; i < groups.size(); ++i) {
      if (i != group && groups[i].pc > groups[group].pc) meeting = std::min(meeting, groups[i].pc);
    }
    do {
      if (budget-- == 0) return;
    } while (step(group) && groups[group].pc < meeting);
  }
}

LaneMask Warp::guarded(const LaneGroup& group, const Instruction& ins) const {
  if (ins.guard < 0) return group.lanes;
  const LaneMask p = predicates[size_t(ins.guard)];
  return group.lanes & (ins.guard_negated ? ~p : p);
}

// One instruction of a group; false if the set of groups or their waiting changed.
bool Warp::step(size_t g) {
  LaneGroup& group = groups[g];
  const Instruction& ins = kernel().code[size_t(group.pc)];
  const LaneMask lanes = guarded(group, ins);
  if (++launch().executed > launch().options.max_warp_instructions) {
    fail(Violation::Kind::endless, ins, 0, "the launch does not end");
  }
  if (InstructionCounters* counted = counters(ins)) {
    counted->executions += lanes != 0;
    counted->lanes += uint64_t(std::popcount(lanes));
  }
  if (lanes == 0) {
    ++group.pc;
    return true;
  }
  switch (ins.flow) {
    case Flow::plain:
      ins.run(*this, ins, lanes);
      ++group.pc;
      return true;
    case Flow::branch:
      if (lanes == group.lanes) {
        group.pc = ins.target;
        return true;
      }
      group.lanes &= ~lanes;
      ++group.pc;
      groups.push_back({ins.target, lanes, LaneGroup::Wait::none});
      return false;
    case Flow::exit:
      retire(g, lanes);
      return false;
    case Flow::barrier:
      return arrive(g, ins, lanes);
    case Flow::collective:
    case Flow::whole_warp:
      return collective(g, ins, lanes);
  }
  return false;
}

void Warp::retire(size_t g, LaneMask lanes) {
  live &= ~lanes;
  groups[g].lanes &= ~lanes;
  ++groups[g].pc;
  if (groups[g].lanes == 0) groups.erase(groups.begin() + std::ptrdiff_t(g));
  // Whoever waited for these lanes looks again.
  for (LaneGroup& group : groups) {
    if (group.wait == LaneGroup::Wait::converge) group.wait = LaneGroup::Wait::none;
  }
}

bool Warp::collective(size_t g, const Instruction& ins, LaneMask lanes) {
  LaneGroup& group = groups[g];
  const auto wait = [&group] {
    group.wait = LaneGroup::Wait::converge;
    return false;
  };
  if (ins.flow == Flow::whole_warp) {
    if (live != kAllLanes) fail(Violation::Kind::divergence, ins, 0, "needs all 32 lanes of the warp");
    if (group.lanes != kAllLanes) return wait();
    if (lanes != kAllLanes) fail(Violation::Kind::divergence, ins, 0, "its guard is not the same in all lanes");
    ins.run(*this, ins, lanes);
    ++group.pc;
    return true;
  }
  const uint32_t* masks = lanes32(ins[size_t(ins.mask_operand)]);
  std::array<LaneMask, kWarpSize> sets;  // lanes with one mask each
  size_t num_sets = 0;
  for (LaneMask rest = lanes; rest != 0;) {
    const int lane = std::countr_zero(rest);
    const LaneMask named = masks[lane] & exist;
    if (!(named >> lane & 1))
      fail(Violation::Kind::divergence, ins, lane, "executes with a mask that does not name it");
    if (named & ~live) fail(Violation::Kind::divergence, ins, lane, "its mask names lanes that have exited");
    if (named & ~group.lanes) return wait();
    for (LaneMask m = named; m != 0; m &= m - 1) {
      const int other = std::countr_zero(m);
      if (!(lanes >> other & 1) || masks[other] != masks[lane]) {
        fail(Violation::Kind::divergence, ins, other, "lanes of one mask do not execute it with that mask");
      }
    }
    sets[num_sets++] = named;
    rest &= ~named;
  }
  for (size_t i = 0; i < num_sets; ++i) ins.run(*this, ins, sets[i]);
  ++group.pc;
  return true;
}

}  // namespace inferd::ptxsim
