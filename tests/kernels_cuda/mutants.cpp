// Mutation runs: faults in a kernel against a check of its results.
#include "tests/kernels_cuda/mutants.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/kernels_cuda/sim_launcher.h"
#include "tests/ptxsim/mutation.h"

namespace inferd::cuda::test {

std::string unlisted_mutants(Kernel kernel, const std::string& name, const std::function<bool()>& is_right,
                             const std::string& others) {
  const int arch = built_archs()[0];
  const auto notices = [&] {
    try {
      return !is_right();
    } catch (const std::exception&) {
      return true;
    }
  };
  ptxsim::MutationReport report =
      ptxsim::run_mutations(module_of(kernel, arch), kernel_info(kernel).entry, profile_of(arch), notices);
  if (!others.empty()) {
    std::erase_if(report.survivors, [&](const ptxsim::Mutation& mutation) {
      return mutation.key.find("|" + others + ":") != std::string::npos;
    });
  }
  std::ifstream in(INFERD_SURVIVORS_DIR "/" + name + ".txt");
  const std::string prefix = std::string(kernel_info(kernel).entry) + "|";
  std::string listed;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(prefix, 0) == 0) listed += line + "\n";
  }
  const ptxsim::ReviewedSurvivors reviewed = ptxsim::ReviewedSurvivors::parse(listed);
  std::string text;
  for (const std::string& key : reviewed.unexpected(report)) text += "survives: " + key + "\n";
  for (const std::string& key : reviewed.stale(report)) text += "does not survive: " + key + "\n";
  return text;
}

}  // namespace inferd::cuda::test
