// Sums over a profile.
#include "tests/ptxsim/report.h"

#include <algorithm>
#include <cstdio>

namespace inferd::ptxsim {
namespace {

constexpr double kSectorBytes = 32;
constexpr double kWastefulUse = 0.75;
constexpr size_t kWorst = 5;

struct Ranked {
  double badness;
  std::string text;
};

std::vector<std::string> worst(std::vector<Ranked> all) {
  std::sort(all.begin(), all.end(), [](const Ranked& a, const Ranked& b) { return a.badness > b.badness; });
  std::vector<std::string> result;
  for (size_t i = 0; i < std::min(all.size(), kWorst); ++i) result.push_back(all[i].text);
  return result;
}

std::string number(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

}  // namespace

KernelReport report_kernel(const Kernel& kernel, const Profile& profile) {
  KernelReport report;
  report.kernel = kernel.name;
  const auto found = profile.all().find(kernel.name);
  if (found == profile.all().end()) return report;
  const auto& counters = found->second;
  uint64_t lanes = 0, sectors = 0, known = 0, executed = 0;
  std::vector<Ranked> conflicts, wasted;
  for (const Instruction& ins : kernel.code) {
    if (ins.ptx_line == 0 || size_t(ins.index) >= counters.size()) continue;  // the return behind the last instruction
    const InstructionCounters& c = counters[size_t(ins.index)];
    ++known;
    executed += c.executions > 0;
    if (c.executions == 0) report.never_executed.push_back(kernel.describe(ins));
    report.instructions += c.executions;
    lanes += c.lanes;
    sectors += c.sectors;
    report.shared_requests += c.shared_requests;
    report.shared_wavefronts += c.shared_wavefronts;
    report.global_bytes += c.global_bytes;
    if (c.shared_wavefronts > c.shared_requests) {
      const double ratio = double(c.shared_wavefronts) / double(c.shared_requests);
      conflicts.push_back(
          {double(c.shared_wavefronts - c.shared_requests), number("x%.2f ", ratio) + kernel.describe(ins)});
    }
    const double use = c.sectors == 0 ? 1 : double(c.global_bytes) / (kSectorBytes * double(c.sectors));
    if (use < kWastefulUse) {
      wasted.push_back({double(c.sectors) * (1 - use), number("%.0f%% ", 100 * use) + kernel.describe(ins)});
    }
  }
  report.coverage = known == 0 ? 0 : double(executed) / double(known);
  report.active_lanes = report.instructions == 0 ? 0 : double(lanes) / (kWarpSize * double(report.instructions));
  if (sectors > 0) report.sector_use = double(report.global_bytes) / (kSectorBytes * double(sectors));
  if (report.global_bytes > 0) report.instructions_per_byte = double(report.instructions) / double(report.global_bytes);
  report.conflicts = worst(std::move(conflicts));
  report.wasted_sectors = worst(std::move(wasted));
  return report;
}

std::string format_report(const std::vector<KernelReport>& reports) {
  std::string text;
  for (const KernelReport& r : reports) {
    const double conflicts = r.shared_requests == 0 ? 1 : double(r.shared_wavefronts) / double(r.shared_requests);
    text += r.kernel + "\n  coverage " + number("%.1f%%", 100 * r.coverage) + ", " + std::to_string(r.instructions) +
            " warp instructions, " + number("%.1f%%", 100 * r.active_lanes) + " of lanes active\n  bank conflicts " +
            number("x%.2f", conflicts) + ", sector use " + number("%.0f%%", 100 * r.sector_use) + ", " +
            number("%.3f", r.instructions_per_byte) + " instructions a byte of " + std::to_string(r.global_bytes) +
            "\n";
    for (const std::string& line : r.conflicts) text += "    conflicts " + line + "\n";
    for (const std::string& line : r.wasted_sectors) text += "    sectors used " + line + "\n";
    for (size_t i = 0; i < std::min(r.never_executed.size(), kWorst); ++i)
      text += "    never executed " + r.never_executed[i] + "\n";
  }
  return text;
}

}  // namespace inferd::ptxsim
