// `inferd check-config FILE`.
#include <CLI/CLI.hpp>

#include <cstdio>

#include "config/arguments.h"
#include "config/load_settings.h"
#include "engine/weights/checkpoint.h"
#include "server/auth.h"
#include "server/commands/commands.h"
#include "server/commands/serve_options.h"

namespace inferd {

namespace {

/// Begins to read what serve would, so that a missing or foreign file is told.
void check_files(const Settings& settings) {
  if (!settings.api_key_file.empty()) ApiKeys::read(settings.api_key_file);
  for (const ModelSpec& spec : model_specs(settings)) {
    if (!spec.simulated()) Checkpoint::open(spec.path);
  }
}

}  // namespace

int run_check_config(std::span<const std::string> args) {
  ServeFlags flags;
  CLI::App app("inferd check-config: reads a configuration file as serve would", "inferd check-config");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("FILE", flags.config_file, "YAML file of settings")->required();
  if (const auto early = parse_arguments(app, args)) return early->print();
  const char* file = flags.config_file.c_str();
  const Settings settings = load_settings(flags, process_environment());
  check_files(settings);
  const GpuList gpus = check_devices(settings);
  for (const std::string& line : without_effect(settings, gpus)) {
    std::printf("%s: note: %s\n", file, line.c_str());
  }
  std::printf("%s: good, %zu model%s\n", file, settings.models.size(), settings.models.size() == 1 ? "" : "s");
  return 0;
}

}  // namespace inferd
