// cp.async and its groups: PTX ISA 9.7.9.25. A copy happens when issued (early) or when waited for (late); either way
// its bytes belong to nobody in between.
#include <cstring>

#include "tests/ptxsim/access.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

void perform(Warp& w, const AsyncCopy& copy) {
  uint8_t* to = w.block->shared.data() + copy.shared_offset;
  if (copy.valid_bytes > 0) std::memcpy(to, copy.source, copy.valid_bytes);
  std::memset(to + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
}

// cp.async.ca/cg.shared.global [dst], [src], bytes{, src_bytes}{, policy}
void run_copy(Warp& w, const Instruction& i, LaneMask m) {
  const bool early = w.launch().options.cp_async == CopyTiming::early;
  const bool checked = w.launch().options.checked;
  uint64_t to[kWarpSize], from[kWarpSize];
  lane_addresses(w, i, i[0], to);
  lane_addresses(w, i, i[1], from);
  const uint32_t bytes = w.lanes32(i[2])[0];
  const uint32_t* valid = i.variant[0] != 0 ? w.lanes32(i[3]) : nullptr;
  LaneMask reading = 0;
  for (LaneMask rest = m; rest != 0; rest &= rest - 1) {
    const int l = std::countr_zero(rest);
    AsyncCopy copy;
    copy.shared_offset = uint32_t(to[l] & kWindowMask);
    copy.bytes = bytes;
    copy.valid_bytes = valid != nullptr ? valid[l] : bytes;
    copy.instruction = &i;
    if (copy.valid_bytes > bytes) w.fail(Violation::Kind::bounds, i, l, "the source size exceeds the copy's");
    check_shared_bounds(w, i, l, copy.shared_offset, int(bytes));
    if (copy.valid_bytes > 0) {
      copy.source = resolve_global(w, i, l, from[l], int(bytes), Purpose::read);
      reading |= 1u << l;
    }
    if (checked) w.block->shared.begin_copy(w, l, copy.shared_offset, bytes, i);
    if (early) perform(w, copy);
    copy.done = early;
    w.copies[size_t(l)].copies.push_back(copy);
  }
  if (InstructionCounters* counters = w.counters(i)) {
    count_shared(*counters, to, m, int(bytes));
    count_global(*counters, from, reading, int(bytes));
  }
}

void run_commit(Warp& w, const Instruction&, LaneMask m) {
  each_lane(m, [&w](int l) {
    CopyQueue& queue = w.copies[size_t(l)];
    for (AsyncCopy& copy : queue.copies) {
      if (copy.group < 0) copy.group = queue.committed;
    }
    ++queue.committed;
  });
}

// Completes the copies of a lane's groups before `end`.
void complete(Warp& w, int lane, int end) {
  std::vector<AsyncCopy>& copies = w.copies[size_t(lane)].copies;
  auto next = copies.begin();
  for (; next != copies.end() && next->group >= 0 && next->group < end; ++next) {
    if (!next->done) perform(w, *next);
    if (w.launch().options.checked) {
      w.block->shared.end_copy(w, lane, next->shared_offset, next->bytes, *next->instruction);
    }
  }
  copies.erase(copies.begin(), next);
}

void run_wait_group(Warp& w, const Instruction& i, LaneMask m) {
  const int pending = int(w.lanes32(i[0])[0]);
  each_lane(m, [&](int l) { complete(w, l, w.copies[size_t(l)].committed - pending); });
}

void run_wait_all(Warp& w, const Instruction& i, LaneMask m) {
  run_commit(w, i, m);
  each_lane(m, [&](int l) { complete(w, l, w.copies[size_t(l)].committed); });
}

}  // namespace

void select_async_copy(Instruction& ins) {
  const Opcode& op = ins.opcode;
  if (op.words.size() < 3 || op.words[1] != "async" || op.has("bulk") || op.has("mbarrier")) unknown_instruction(ins);
  if (op.has("commit_group")) {
    ins.run = run_commit;
  } else if (op.has("wait_group")) {
    require_operands(ins, 1);
    ins.run = run_wait_group;
  } else if (op.has("wait_all")) {
    ins.run = run_wait_all;
  } else {
    require_operands(ins, 3);
    const bool policy = op.has("L2::cache_hint");
    ins.variant[0] = ins.operands.size() > (policy ? 4u : 3u);
    const bool size_known = ins[2].kind == Operand::Kind::constant;
    const uint32_t bytes = size_known ? ins[2].constant->w32[0] : 0;
    if (bytes != 16 && (op.has("cg") || (bytes != 4 && bytes != 8))) unknown_instruction(ins);
    if (ins.variant[0] != 0 && ins[3].kind == Operand::Kind::predicate) unknown_instruction(ins);  // ignore-src
    ins.run = run_copy;
  }
}

}  // namespace inferd::ptxsim
