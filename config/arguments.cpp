// CLI11's outcomes as messages and exit codes.
#include "config/arguments.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <sstream>

#include "base/errors.h"

namespace inferd {

int EarlyExit::print() const {
  std::fputs(message.c_str(), exit_code == 0 ? stdout : stderr);
  return exit_code;
}

std::optional<EarlyExit> parse_arguments(CLI::App& app, std::span<const std::string> args) {
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));  // the last first, as CLI11 wants a vector
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    if (app.exit(error, out, err) == 0) return EarlyExit{out.str(), 0};
    return EarlyExit{app.get_name() + ": " + err.str(), static_cast<int>(ExitCode::usage)};
  }
  return std::nullopt;
}

}  // namespace inferd
