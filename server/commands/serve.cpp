// `inferd serve`.
#include <malloc.h>

#include <cstdio>

#include "base/errors.h"
#include "base/log.h"
#include "server/commands/commands.h"
#include "server/commands/daemon.h"
#include "server/commands/serve_options.h"

namespace inferd {

int run_serve(std::span<const std::string> args) {
  const ParsedFlags parsed = parse_serve_flags(args);
  if (!parsed.flags) return parsed.early_exit.print();
  const Settings settings = load_settings(*parsed.flags, process_environment());
  init_logging(settings.log_level);
  for (const std::string& name : unknown_variables())
    spdlog::warn("{}: no setting reads this variable", log_safe(name));
  if (settings.models.empty()) {
    std::fprintf(stderr, "inferd serve: no model given; use --model [NAME=]PATH, or models in the --config file\n");
    return static_cast<int>(ExitCode::usage);
  }
  const GpuList gpus = check_devices(settings);
  for (const std::string& line : without_effect(settings, gpus)) spdlog::warn("{}", line);
  install_fault_handlers();
  raise_descriptor_limit(static_cast<int>(settings.max_connections));
  // A heap of its own for each of a thousand connection threads would hold memory nobody uses.
  mallopt(M_ARENA_MAX, 4);
  // What is large goes back to the system when freed. Without this the threshold follows the largest block ever freed,
  // and the heap keeps what one large request body took.
  constexpr int kMapFromBytes = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kMapFromBytes);
  Daemon daemon(*parsed.flags, settings, gpus);
  return daemon.run();
}

}  // namespace inferd
