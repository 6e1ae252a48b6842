// `inferd inspect PATH`: what a model's or an adapter's files hold.
#include <cstdio>

#include "base/errors.h"
#include "server/commands/commands.h"
#include "server/commands/inspect_report.h"

namespace inferd {

int run_inspect(std::span<const std::string> args) {
  std::string path;
  bool json = false, usable = true;
  for (const std::string& arg : args) {
    if (arg == "--json") {
      json = true;
    } else if (path.empty() && !arg.empty() && arg[0] != '-') {
      path = arg;
    } else {
      usable = false;
    }
  }
  if (!usable || path.empty()) {
    std::fprintf(stderr, "usage: inferd inspect PATH [--json]\n");
    return static_cast<int>(ExitCode::usage);
  }
  const Json report = inspect_path(path);
  std::fputs((json ? dump_json(report) + "\n" : inspect_text(report)).c_str(), stdout);
  return 0;
}

}  // namespace inferd
