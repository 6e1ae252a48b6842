// The binary: finds the command, and turns what ends it into one line and an exit code.
#include <cstdio>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "base/errors.h"
#include "server/commands/commands.h"
#include "server/commands/doctor.h"

namespace inferd {
namespace {

struct Command {
  const char* name;
  const char* help;
  int (*run)(std::span<const std::string> args);
};

constexpr Command kCommands[] = {
    {"serve", "load models and serve them over HTTP (serve --help lists the settings)", run_serve},
    {"check-config", "read a configuration file and say whether it is good", run_check_config},
    {"bench", "measure how fast this machine runs a model (bench --help lists the options)", run_bench},
    {"doctor", "say what this machine can serve", run_doctor},
    {"plan", "say what a model takes on each device, and which contexts fit (plan --help lists the options)", run_plan},
    {"inspect", "say what a model's or an adapter's files hold (--json for programs)", run_inspect},
    {"version", "print the version", run_version},
};

void print_usage(std::FILE* out) {
  std::fprintf(out, "usage: inferd COMMAND [ARGUMENTS]\n\n");
  for (const Command& command : kCommands) std::fprintf(out, "  %-14s %s\n", command.name, command.help);
}

int run(const std::vector<std::string>& args) {
  const std::string name = args.empty() ? "" : args[0];
  if (name == "help" || name == "--help" || name == "-h") {
    print_usage(stdout);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (name == command.name || (name == "--version" && std::string(command.name) == "version")) {
      return command.run(std::span(args).subspan(1));
    }
  }
  if (!name.empty()) std::fprintf(stderr, "inferd: unknown command '%s'\n", name.c_str());
  print_usage(stderr);
  return static_cast<int>(ExitCode::usage);
}

}  // namespace
}  // namespace inferd

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
  try {
    return inferd::run(args);
  } catch (const inferd::FatalError& error) {
    std::fprintf(stderr, "inferd: %s\n", error.what());
    return static_cast<int>(error.code);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "inferd: not enough memory\n");
    return static_cast<int>(inferd::ExitCode::no_memory);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inferd: %s\n", error.what());
    return static_cast<int>(inferd::ExitCode::internal);
  }
}
