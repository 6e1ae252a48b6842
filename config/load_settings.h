// Where settings come together: flag beats variable beats file beats default.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/command_line.h"
#include "config/settings.h"

namespace inferd {

/// Reads one environment variable; replaced in tests.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

/// "INFERD_MAX_BATCH_TOKENS" for "max_batch_tokens".
std::string variable_name(std::string_view key);

/// Reads and checks everything. Throws ConfigError.
Settings load_settings(const ServeFlags& flags, const Environment& environment);

/// INFERD_ variables of this process that no key reads, to warn of misspelt ones.
std::vector<std::string> unknown_variables();

}  // namespace inferd
