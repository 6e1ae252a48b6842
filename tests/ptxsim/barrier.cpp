// bar and barrier: arrival, completion, the reductions of bar.red.
#include <algorithm>
#include <bit>

#include "tests/ptxsim/block.h"
#include "tests/ptxsim/ops/select.h"

namespace inferd::ptxsim {
namespace {

// Where the operands of an instruction stand: bar.red has a destination first and a predicate last.
struct BarrierOperands {
  bool reduces = false, arrives_only = false, aligned = false;
  int id = 0;
  int threads = 0;  // 0: all of the block
};

BarrierOperands read_operands(Warp& warp, const Instruction& ins, int lane) {
  BarrierOperands result;
  result.reduces = ins.opcode.has("red");
  result.arrives_only = ins.opcode.has("arrive");
  result.aligned = ins.opcode.root() == "bar" || ins.opcode.has("aligned");
  const size_t first = result.reduces ? 1 : 0;
  const size_t with_count = result.reduces ? 4 : 2;
  result.id = int(warp.lanes32(ins[first])[lane]);
  if (ins.operands.size() >= with_count) result.threads = int(warp.lanes32(ins[first + 1])[lane]);
  return result;
}

}  // namespace

void select_barrier(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const bool known =
      op.has("sync") || op.has("arrive") || (op.has("red") && (op.has("popc") || op.has("and") || op.has("or")));
  if (!known || ins.operands.empty()) unknown_instruction(ins);
  ins.run = [](Warp&, const Instruction&, LaneMask) {};  // Warp::arrive() does it
}

bool Warp::arrive(size_t g, const Instruction& ins, LaneMask lanes) {
  LaneGroup& group = groups[g];
  const int lane = std::countr_zero(lanes);
  const BarrierOperands operands = read_operands(*this, ins, lane);
  if (operands.id < 0 || operands.id >= kNumBarriers) fail(Violation::Kind::bounds, ins, lane, "no such barrier");
  if (operands.threads % kWarpSize != 0) fail(Violation::Kind::divergence, ins, lane, "the count is no multiple of 32");
  if (lanes != group.lanes) fail(Violation::Kind::divergence, ins, lane, "its guard is not the same in all lanes");
  if (operands.aligned && lanes != live) {
    group.wait = LaneGroup::Wait::converge;
    return false;
  }
  BarrierState& state = block->barriers[size_t(operands.id)];
  if (state.arrived > 0 && state.expected != operands.threads) {
    fail(Violation::Kind::divergence, ins, lane, "threads disagree on the barrier's count");
  }
  state.expected = operands.threads;
  state.arrived += operands.threads != 0 && operands.aligned ? kWarpSize : std::popcount(lanes);
  ++clock;
  seen[size_t(id)] = clock;
  for (size_t w = 0; w < state.seen.size(); ++w) state.seen[w] = std::max(state.seen[w], seen[w]);
  if (operands.reduces) {
    const LaneMask votes = predicate(ins.operands.back()) & lanes;
    state.reduce_count += std::popcount(votes);
    state.reduce_and = state.reduce_and && votes == lanes;
    state.reduce_or = state.reduce_or || votes != 0;
  }
  if (operands.arrives_only) {
    ++group.pc;
    return true;
  }
  group.wait = LaneGroup::Wait::barrier;
  return false;
}

void Warp::release(int barrier) {
  const BarrierState& state = block->barriers[size_t(barrier)];
  for (LaneGroup& group : groups) {
    if (group.wait != LaneGroup::Wait::barrier) continue;
    const Instruction& ins = kernel().code[size_t(group.pc)];
    const BarrierOperands operands = read_operands(*this, ins, std::countr_zero(group.lanes));
    if (operands.id != barrier) continue;
    if (operands.reduces && ins.opcode.has("popc")) {
      uint32_t* d = lanes32(ins[0]);
      for (LaneMask m = group.lanes; m != 0; m &= m - 1) d[std::countr_zero(m)] = uint32_t(state.reduce_count);
    } else if (operands.reduces) {
      const bool value = ins.opcode.has("and") ? state.reduce_and : state.reduce_or;
      set_predicate(ins[0], value ? kAllLanes : 0, group.lanes);
    }
    group.wait = LaneGroup::Wait::none;
    ++group.pc;
    for (size_t w = 0; w < seen.size(); ++w) seen[w] = std::max(seen[w], state.seen[w]);
  }
}

bool release_complete_barriers(Block& block) {
  int live_threads = 0;
  for (const Warp& warp : block.warps) live_threads += std::popcount(warp.live);
  bool any = false;
  for (int b = 0; b < kNumBarriers; ++b) {
    BarrierState& state = block.barriers[size_t(b)];
    if (state.arrived == 0) continue;
    if (state.arrived < (state.expected != 0 ? state.expected : live_threads)) continue;
    for (Warp& warp : block.warps) warp.release(b);
    state = {};
    any = true;
  }
  return any;
}

}  // namespace inferd::ptxsim
