// `inferd inspect PATH`: what a model's or an adapter's files hold, and what quantising them would do.
#include <CLI/CLI.hpp>

#include <cstdio>

#include "base/log.h"
#include "config/arguments.h"
#include "config/load_settings.h"
#include "server/commands/commands.h"
#include "server/commands/inspect_report.h"
#include "server/commands/quantization_report.h"
#include "server/commands/serve_options.h"

namespace inferd {
namespace {

struct InspectArguments {
  std::string path, quantization = "none", cache_dir;
  bool json = false;
};

/// Fills *arguments; or says why to leave.
std::optional<EarlyExit> parse(std::span<const std::string> args, InspectArguments* arguments) {
  CLI::App app("inferd inspect: what a model's or an adapter's files hold", "inferd inspect");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("PATH", arguments->path, "GGUF file, Hugging Face folder or adapter folder")->required();
  app.add_flag("--json", arguments->json, "one JSON object");
  app.add_option("--quantization", arguments->quantization,
                 "also quantise the weights, and say what it saves and how far the result lies from the original")
      ->check(CLI::IsMember({"none", "int8", "int4"}));
  app.add_option("--cache-dir", arguments->cache_dir, "where the quantised weights are kept, as for serve");
  return parse_arguments(app, args);
}

}  // namespace

int run_inspect(std::span<const std::string> args) {
  InspectArguments arguments;
  if (const auto early = parse(args, &arguments)) return early->print();
  Json report = inspect_path(arguments.path);
  const LoadQuantization to = parse_load_quantization(arguments.quantization);
  if (to != LoadQuantization::none) {
    init_logging("warn");
    Settings settings = default_settings();
    settings.cache_dir = arguments.cache_dir;
    report["quantized"] = quantization_report(
        arguments.path, {.to = to, .cache = weight_cache(settings, process_environment()), .model = arguments.path});
  }
  std::fputs((arguments.json ? dump_json(report) + "\n" : inspect_text(report)).c_str(), stdout);
  return 0;
}

}  // namespace inferd
