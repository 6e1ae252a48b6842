// What a profile says of a kernel: coverage, and the lint a GPU's profiler would give.
#pragma once
#include <string>
#include <vector>

#include "tests/ptxsim/module.h"
#include "tests/ptxsim/profile.h"

namespace inferd::ptxsim {

struct KernelReport {
  std::string kernel;
  double coverage = 0;  // executed share of its instructions
  std::vector<std::string> never_executed;
  uint64_t instructions = 0;                            // of warps
  double active_lanes = 0;                              // share of lanes active, over all executions
  uint64_t shared_requests = 0, shared_wavefronts = 0;  // their ratio: 1 without bank conflicts
  double sector_use = 1;                                // bytes asked for / bytes of the 32-byte sectors moved
  uint64_t global_bytes = 0;
  double instructions_per_byte = 0;    // warp instructions per byte of global memory asked for
  std::vector<std::string> conflicts;  // instructions with bank conflicts, and with half-used sectors, worst first
  std::vector<std::string> wasted_sectors;
};

KernelReport report_kernel(const Kernel& kernel, const Profile& profile);
/// A table of the reports, with the worst instructions below each.
std::string format_report(const std::vector<KernelReport>& reports);

}  // namespace inferd::ptxsim
