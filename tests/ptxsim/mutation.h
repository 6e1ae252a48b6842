// Mutation testing: small faults put into a kernel one at a time, to see whether its tests notice.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/ptxsim/module.h"
#include "tests/ptxsim/profile.h"

namespace inferd::ptxsim {

enum class Fault {
  drop_barrier,   // bar.sync or bar.warp.sync does nothing
  shorten_wait,   // cp.async.wait_group leaves one more group pending
  shift_compare,  // an integer setp takes < for <=, > for >=, == for !=, or the reverse
  drop_store,     // st does nothing
  swap_operands,  // mma takes two registers of B (or of A, if B is one) in the wrong order
  drop_addend,    // fma or mad adds nothing
  lose_shuffle,   // shfl answers the lane's own value
};

struct Mutation {
  std::string kernel;
  int instruction = 0;  // index
  Fault fault = Fault::drop_barrier;
  /// "kernel|fault|place": stable while the source line's text and the instruction's opcode are. The place is
  /// "opcode in file: text", of the nearest caller's line if the own one is a primitive's or CUDA's; opcode #n where
  /// the PTX has no line information. Copies of an unrolled loop share a key.
  std::string key;
};

/// The faults that can be put into the instructions of a kernel that `profile` saw executed.
std::vector<Mutation> list_mutations(const Kernel& kernel, Profile& profile);

/// At most `copies` mutations of each key, spread evenly over its copies.
std::vector<Mutation> sample_mutations(const std::vector<Mutation>& all, size_t copies);

/// Puts a fault into a module for its own lifetime.
class Mutated {
 public:
  Mutated(Module& module, const Mutation& mutation);
  ~Mutated();
  Mutated(const Mutated&) = delete;
  Mutated& operator=(const Mutated&) = delete;

 private:
  Instruction& place_;
  Instruction original_;
  std::unique_ptr<Constant> constant_;
};

struct MutationReport {
  size_t tried = 0;
  std::vector<Mutation> survivors;  // nothing noticed them
};
/// Runs `notices` once for each mutation; it answers true, or throws a Violation, if a test fails.
MutationReport run_mutations(Module& module, const std::vector<Mutation>& mutations,
                             const std::function<bool(const Mutation&)>& notices);

/// The checked-in list of survivors that a person has looked at: one key a line, "# why it may live" behind it. A key's
/// kernel may be a pattern with *.
class ReviewedSurvivors {
 public:
  static ReviewedSurvivors parse(const std::string& text);
  bool has(const Mutation& mutation) const;
  /// Survivors that are not on the list.
  std::vector<std::string> unexpected(const MutationReport& report) const;
  /// Lines that no survivor of the report is like. `judged(pattern)`: whether the report is of all kernels it names.
  std::vector<std::string> stale(const MutationReport& report,
                                 const std::function<bool(const std::string& pattern)>& judged) const;

 private:
  struct Entry {
    std::string kernels, rest;  // of the key, before and behind the first |
    bool is_like(const Mutation& mutation) const;
  };
  std::vector<Entry> entries_;
};

/// Whether a kernel's name is like a pattern with *.
bool is_named(const std::string& kernel, const std::string& pattern);

}  // namespace inferd::ptxsim
