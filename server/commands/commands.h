// The commands of the binary, one file each.
#pragma once

#include <span>
#include <string>

namespace inferd {

/// `inferd serve [flags]`. Returns the exit code; throws FatalErrors.
int run_serve(std::span<const std::string> args);
/// `inferd check-config FILE`: reads the file, and begins to read those it names, as `serve` would.
int run_check_config(std::span<const std::string> args);
/// `inferd inspect PATH [--json] [--quantization int8|int4]`: what a model's or an adapter's files hold.
int run_inspect(std::span<const std::string> args);

/// `inferd plan PATH […]`: what a model takes on each device, and what context and concurrency fit.
int run_plan(std::span<const std::string> args);

/// `inferd bench --model PATH …`: speed of prompts and generation on this machine.
int run_bench(std::span<const std::string> args);
/// `inferd version`
int run_version(std::span<const std::string> args);

/// "0.1.0"
const char* version_text();

}  // namespace inferd
