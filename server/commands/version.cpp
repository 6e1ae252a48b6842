// `inferd version`.
#include <CLI/CLI.hpp>

#include <cstdio>

#include "config/arguments.h"
#include "server/commands/commands.h"

namespace inferd {

const char* version_text() { return INFERD_VERSION; }

int run_version(std::span<const std::string> args) {
  CLI::App app("inferd version: prints the version", "inferd version");
  app.set_help_flag("-h,--help", "print this help");
  if (const auto early = parse_arguments(app, args)) return early->print();
  std::printf("inferd %s\n", version_text());
  return 0;
}

}  // namespace inferd
