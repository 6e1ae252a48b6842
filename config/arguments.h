// Parsing the arguments of one command with CLI11.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace CLI {
class App;
}

namespace inferd {

/// Why a command ends before it began: a text to print, help or an error, and the exit code to leave with.
struct EarlyExit {
  std::string message;
  int exit_code = 0;

  /// To stdout if nothing is wrong, else to stderr. Returns the exit code.
  int print() const;
};

/// Parses what follows the command's name into the variables bound to `app`. Nothing is returned if all is well; help
/// leaves with 0, a wrong argument with ExitCode::usage. Never exits or prints.
std::optional<EarlyExit> parse_arguments(CLI::App& app, std::span<const std::string> args);

}  // namespace inferd
