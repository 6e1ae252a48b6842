// Mutation runs: faults in a kernel against a check of its results.
#include "tests/kernels_cuda/mutants.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <stdexcept>
#include <utility>

#include "tests/kernels_cuda/sim_launcher.h"
#include "tests/ptxsim/mutation.h"

namespace inferd::cuda::test {
namespace {

constexpr std::size_t kCopies = 3;  // of one place, in every run

bool faulty = false;

bool answers_yes(const Suspect::Check& is_right) {
  try {
    return is_right();
  } catch (const std::exception&) {
    return false;
  }
}

/// Whether a key is of a place in a source file.
bool is_in(const std::string& key, const std::string& file) { return key.find(" in " + file + ": ") != key.npos; }

std::vector<ptxsim::Mutation> mutations_of(Kernel kernel, int arch, const std::string& others) {
  std::vector<ptxsim::Mutation> all =
      ptxsim::list_mutations(module_of(kernel, arch).kernel(kernel_info(kernel).entry), profile_of(arch));
  if (!others.empty()) {
    std::erase_if(all, [&](const ptxsim::Mutation& mutation) { return is_in(mutation.key, others); });
  }
  return all;
}

/// A check, and what its launches executed without a fault.
struct Reach {
  const Suspect::Check* is_right;
  std::vector<ptxsim::InstructionCounters> executed;
  LaunchWatch took;
};

/// Runs a kernel's checks without a fault, and sorts them by length. Empty if one answers no.
std::vector<Reach> run_right(const Suspect& suspect, int arch) {
  const ptxsim::Kernel& kernel = module_of(suspect.kernel, arch).kernel(kernel_info(suspect.kernel).entry);
  ptxsim::Profile& profile = profile_of(arch);
  std::vector<Reach> reaches;
  for (const Suspect::Check& is_right : suspect.checks) {
    const ptxsim::Profile others = std::exchange(profile, {});
    launch_watch() = {};
    if (!is_right()) return {};
    reaches.push_back({&is_right, profile.of(kernel), launch_watch()});
    profile.add(others);
  }
  std::stable_sort(reaches.begin(), reaches.end(),
                   [](const Reach& a, const Reach& b) { return a.took.sum < b.took.sum; });
  return reaches;
}

bool is_noticed(const ptxsim::Mutation& mutation, const std::vector<Reach>& reaches) {
  return std::any_of(reaches.begin(), reaches.end(), [&](const Reach& reach) {
    if (reach.executed[static_cast<std::size_t>(mutation.instruction)].executions == 0) return false;
    launch_watch().most_instructions = 4 * reach.took.longest + 10000;  // a fault may keep a loop from ending
    return !answers_yes(*reach.is_right);
  });
}

/// Tries one kernel's mutations; says in a run of all mutants what came of it.
ptxsim::MutationReport try_all(const Suspect& suspect, int arch, const std::vector<Reach>& reaches,
                               const std::vector<ptxsim::Mutation>& mutations) {
  const auto begin = std::chrono::steady_clock::now();
  faulty = true;
  const ptxsim::MutationReport report =
      ptxsim::run_mutations(module_of(suspect.kernel, arch), mutations,
                            [&](const ptxsim::Mutation& mutation) { return is_noticed(mutation, reaches); });
  faulty = false;
  launch_watch() = {};
  if (all_mutants()) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const ptxsim::Kernel& kernel = module_of(suspect.kernel, arch).kernel(kernel_info(suspect.kernel).entry);
    std::printf("%s: %zu of %zu faults not noticed, %.1f s\n", kernel.name.c_str(), report.survivors.size(),
                report.tried, took.count());
    for (const ptxsim::Mutation& survivor : report.survivors) {
      const ptxsim::Instruction& instruction = kernel.code[static_cast<std::size_t>(survivor.instruction)];
      std::printf("  %s  ptx line %d: %s\n", survivor.key.c_str(), instruction.ptx_line, instruction.text.c_str());
    }
  }
  return report;
}

/// The lines of survivors/NAME.txt, but for those about the file `others`.
std::string read_list(const std::string& name, const std::string& others) {
  std::ifstream in(INFERD_SURVIVORS_DIR "/" + name + ".txt");
  std::string text;
  for (std::string line; std::getline(in, line);) {
    if (others.empty() || !is_in(line, others)) text += line + "\n";
  }
  return text;
}

}  // namespace

bool all_mutants() { return std::getenv("INFERD_MUTANTS") != nullptr; }

int mutant_arch() {
  const std::vector<int> archs = built_archs();
  const auto found = std::find_if(archs.begin(), archs.end(), [](int arch) { return arch >= 80; });
  return found != archs.end() ? *found : archs.at(0);
}

bool fault_in_place() { return faulty; }

std::string unlisted_mutants(const std::string& name, const std::vector<Suspect>& suspects, const std::string& others) {
  if (GpuDevice::get() != nullptr) return "";
  const int arch = mutant_arch();
  const ptxsim::ReviewedSurvivors reviewed = ptxsim::ReviewedSurvivors::parse(read_list(name, others));
  ptxsim::MutationReport report;
  std::set<std::string> complete;  // kernels of which every mutation was tried
  for (const Suspect& suspect : suspects) {
    const std::string entry = kernel_info(suspect.kernel).entry;
    if (all_mutants() && !ptxsim::is_named(entry, std::getenv("INFERD_MUTANTS"))) continue;
    const std::vector<Reach> reaches = run_right(suspect, arch);
    if (reaches.empty()) return entry + ": wrong without a fault\n";
    std::vector<ptxsim::Mutation> mutations = mutations_of(suspect.kernel, arch, others);
    if (all_mutants()) {
      complete.insert(entry);
    } else {
      mutations = ptxsim::sample_mutations(mutations, kCopies);
      std::erase_if(mutations, [&](const ptxsim::Mutation& mutation) { return reviewed.has(mutation); });
    }
    const ptxsim::MutationReport found = try_all(suspect, arch, reaches, mutations);
    report.tried += found.tried;
    report.survivors.insert(report.survivors.end(), found.survivors.begin(), found.survivors.end());
  }
  const auto judged = [&](const std::string& pattern) {
    return std::all_of(std::begin(kKernels), std::end(kKernels), [&](const KernelInfo& info) {
      return !ptxsim::is_named(info.entry, pattern) || complete.count(info.entry) > 0;
    });
  };
  std::set<std::string> lines;
  for (const std::string& key : reviewed.unexpected(report)) lines.insert("survives: " + key + "\n");
  for (const std::string& key : reviewed.stale(report, judged)) lines.insert("does not survive: " + key + "\n");
  std::string text;
  for (const std::string& line : lines) text += line;
  std::fputs(text.c_str(), stdout);  // Catch would break the lines
  return text;
}

}  // namespace inferd::cuda::test
