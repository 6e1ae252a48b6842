// `inferd check-config FILE`.
#include <cstdio>

#include "base/errors.h"
#include "config/load_settings.h"
#include "server/commands/commands.h"
#include "server/commands/serve_options.h"

namespace inferd {

int run_check_config(std::span<const std::string> args) {
  if (args.size() != 1) {
    std::fprintf(stderr, "usage: inferd check-config FILE\n");
    return static_cast<int>(ExitCode::usage);
  }
  ServeFlags flags;
  flags.config_file = args[0];
  const Settings settings = load_settings(flags, process_environment());
  const GpuList gpus = check_devices(settings);
  for (const std::string& line : without_effect(settings, gpus)) {
    std::printf("%s: note: %s\n", args[0].c_str(), line.c_str());
  }
  std::printf("%s: good, %zu model%s\n", args[0].c_str(), settings.models.size(),
              settings.models.size() == 1 ? "" : "s");
  return 0;
}

}  // namespace inferd
