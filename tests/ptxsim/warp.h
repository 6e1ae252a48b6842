// The state of a running launch: the block at work and its warps.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "tests/ptxsim/launch.h"
#include "tests/ptxsim/shared_memory.h"

namespace inferd::ptxsim {

constexpr int kMaxWarps = 32;     // of a block
constexpr int kNumBarriers = 16;  // of a block

/// Lanes that are at the same instruction. A warp is one group until a branch divides it.
struct LaneGroup {
  enum class Wait : uint8_t { none, barrier, converge };  // converge: for other lanes of the warp
  int pc = 0;
  LaneMask lanes = 0;
  Wait wait = Wait::none;
};

struct AsyncCopy {
  uint32_t shared_offset = 0;
  uint32_t bytes = 0, valid_bytes = 0;  // the rest is zero-filled
  const uint8_t* source = nullptr;      // host storage of the global source
  const Instruction* instruction = nullptr;
  int group = -1;     // commit group, -1: not committed yet
  bool done = false;  // already copied (early timing)
};

/// cp.async of one lane: copies in order of issue; `committed` counts commit_group so far.
struct CopyQueue {
  std::vector<AsyncCopy> copies;
  int committed = 0;
};

struct BarrierState {
  int arrived = 0;                         // threads, whole warps for aligned barriers
  int expected = 0;                        // 0: all threads of the block that have not exited
  std::array<uint32_t, kMaxWarps> seen{};  // joined clocks of those that arrived
  bool reduce_and = true, reduce_or = false;
  int reduce_count = 0;
};

class Warp;

/// A launch: what all its blocks share.
struct Launch {
  Module& module;
  const Kernel& kernel;
  Memory& memory;
  const LaunchOptions& options;
  std::span<const uint8_t> parameters;
  Dim3 grid, block;
  size_t shared_bytes = 0;
  InstructionCounters* counters = nullptr;  // by instruction, null: not counting
  uint64_t executed = 0;
  std::vector<Region> globals;       // the module's variables
  std::vector<Region*> last_region;  // by instruction: where its last access fell
};

struct Block {
  explicit Block(Launch& l) : launch(l) {}
  Launch& launch;
  Dim3 id{0, 0, 0};
  SharedMemory shared;
  std::vector<uint8_t> local;  // [thread][local_bytes]
  std::vector<Warp> warps;
  std::array<BarrierState, kNumBarriers> barriers;
};

class Warp {
 public:
  Warp(Block& b, int warp_id, LaneMask lanes);

  /// Back to the first instruction, for the next block of the grid.
  void restart();
  /// Runs until every lane has exited or waits at a barrier, or `budget` instructions are spent.
  void run(uint64_t budget);
  /// Lets the lanes waiting at barrier `id` go on.
  void release(int barrier);

  bool finished() const { return groups.empty(); }
  bool waits_at_barrier() const;
  bool runnable() const;

  // Registers, as arrays over the lanes.
  uint32_t* lanes32(const Operand& o) {
    return o.constant ? const_cast<uint32_t*>(o.constant->w32.data()) : &reg32[size_t(o.index) * kWarpSize];
  }
  uint64_t* lanes64(const Operand& o) {
    return o.constant ? const_cast<uint64_t*>(o.constant->w64.data()) : &reg64[size_t(o.index) * kWarpSize];
  }
  /// A predicate as a mask of lanes (with its negation applied), and writing it for some lanes.
  LaneMask predicate(const Operand& o) const {
    if (o.kind != Operand::Kind::predicate) return o.constant->w32[0] ? kAllLanes : 0;
    return o.negated ? ~predicates[size_t(o.index)] : predicates[size_t(o.index)];
  }
  void set_predicate(const Operand& o, LaneMask value, LaneMask lanes) {
    if (o.kind != Operand::Kind::predicate) return;  // the sink
    uint32_t& p = predicates[size_t(o.index)];
    p = (p & ~lanes) | (value & lanes);
  }

  Launch& launch() const { return block->launch; }
  const Kernel& kernel() const { return block->launch.kernel; }
  InstructionCounters* counters(const Instruction& ins) const {
    InstructionCounters* all = block->launch.counters;
    return all == nullptr ? nullptr : &all[ins.index];
  }
  [[noreturn]] void fail(Violation::Kind kind, const Instruction& ins, int lane, const std::string& what) const;

  Block* block;
  int id;
  LaneMask exist;  // lanes the block has
  LaneMask live;   // of them, those that have not exited
  std::vector<LaneGroup> groups;
  std::vector<uint32_t> reg32, predicates;
  std::vector<uint64_t> reg64;
  LaneMask carry = 0;  // CC.CF of each lane
  std::array<CopyQueue, kWarpSize> copies;
  uint32_t clock = 1;                      // counts this warp's synchronisations
  std::array<uint32_t, kMaxWarps> seen{};  // accesses of warp w before clock seen[w] happened before ours

 private:
  size_t pick_group();
  void merge_groups();
  bool step(size_t group);
  bool collective(size_t group, const Instruction& ins, LaneMask lanes);
  bool arrive(size_t group, const Instruction& ins, LaneMask lanes);
  void retire(size_t group, LaneMask lanes);
  LaneMask guarded(const LaneGroup& group, const Instruction& ins) const;
};

}  // namespace inferd::ptxsim
