// ptxsim_report PTX PROFILE...: coverage, bank conflicts, sector use and instructions per byte of the kernels of a PTX
// file, from profiles that the fake driver wrote (INFERD_FAKE_CUDA=profile=PATH).
//   --coverage PERCENT   fail (1) if a kernel that ran has less
//   --conflicts RATIO    fail if a kernel has more shared wavefronts per request
//   --sectors PERCENT    fail if a kernel uses less of its sectors
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/ptxsim/report.h"

using namespace inferd::ptxsim;

namespace {

struct Limits {
  double coverage = 0, conflicts = 1e9, sectors = 0;
};

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw ParseError(path + ": cannot be read");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// A line for each limit a kernel breaks.
std::string complaints(const KernelReport& r, const Limits& limits) {
  std::string text;
  const double conflicts = r.shared_requests == 0 ? 1 : double(r.shared_wavefronts) / double(r.shared_requests);
  if (100 * r.coverage < limits.coverage)
    text += r.kernel + ": coverage below " + std::to_string(limits.coverage) + "%\n";
  if (conflicts > limits.conflicts)
    text += r.kernel + ": bank conflicts above x" + std::to_string(limits.conflicts) + "\n";
  if (100 * r.sector_use < limits.sectors)
    text += r.kernel + ": sector use below " + std::to_string(limits.sectors) + "%\n";
  return text;
}

int run(int argc, char** argv) {
  Limits limits;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    double* limit = argument == "--coverage"    ? &limits.coverage
                    : argument == "--conflicts" ? &limits.conflicts
                    : argument == "--sectors"   ? &limits.sectors
                                                : nullptr;
    if (limit == nullptr) {
      files.push_back(argument);
    } else if (++i < argc) {
      *limit = std::atof(argv[i]);
    }
  }
  if (files.size() < 2) {
    std::fprintf(stderr, "usage: ptxsim_report [--coverage P] [--conflicts R] [--sectors P] PTX PROFILE...\n");
    return 64;
  }
  Module module = Module::parse(read_file(files[0]));
  Profile profile;
  for (size_t i = 1; i < files.size(); ++i) profile.add(Profile::parse(read_file(files[i])));
  std::vector<KernelReport> reports;
  std::string bad;
  for (const std::string& name : module.kernel_names()) {
    if (profile.all().count(name) == 0) continue;
    reports.push_back(report_kernel(module.kernel(name), profile));
    bad += complaints(reports.back(), limits);
  }
  std::fputs(format_report(reports).c_str(), stdout);
  std::fputs(bad.c_str(), stderr);
  return bad.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const ParseError& error) {
    std::fprintf(stderr, "ptxsim_report: %s\n", error.what());
    return 65;
  }
}
