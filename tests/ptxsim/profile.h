// What launches did, instruction by instruction: coverage, and the counts behind the performance lint.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/ptxsim/instruction.h"
#include "tests/ptxsim/module.h"

namespace inferd::ptxsim {

/// Counters of one instruction over all its executions.
struct InstructionCounters {
  uint64_t executions = 0;         // warps that issued it
  uint64_t lanes = 0;              // lanes that were active, summed
  uint64_t shared_requests = 0;    // groups of lanes served together: 32 lanes of 4 bytes, 16 of 8, 8 of 16
  uint64_t shared_wavefronts = 0;  // passes over the 32 banks they took; equal to requests without bank conflicts
  uint64_t sectors = 0;            // distinct 32-byte sectors of global memory touched per request, summed
  uint64_t global_bytes = 0;       // bytes of global memory the lanes asked for
};

/// Counters by kernel name, index = Instruction::index.
class Profile {
 public:
  std::vector<InstructionCounters>& of(const Kernel& kernel) {
    auto& counters = counters_[kernel.name];
    counters.resize(kernel.code.size());
    return counters;
  }
  const std::map<std::string, std::vector<InstructionCounters>>& all() const { return counters_; }
  void clear() { counters_.clear(); }
  /// Adds the counts of another profile of the same PTX.
  void add(const Profile& other);

  /// One line an instruction that was executed: kernel, index, the counters in the order above.
  std::string format() const;
  /// Throws ParseError on a line that is none of format()'s.
  static Profile parse(const std::string& text);

 private:
  std::map<std::string, std::vector<InstructionCounters>> counters_;
};

/// Adds one request of `lanes` of `bytes` each at `addresses` (offsets in shared memory, or global addresses).
void count_shared(InstructionCounters& counters, const uint64_t* addresses, LaneMask lanes, int bytes);
void count_global(InstructionCounters& counters, const uint64_t* addresses, LaneMask lanes, int bytes);

}  // namespace inferd::ptxsim
