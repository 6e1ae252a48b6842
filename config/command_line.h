// The command line of `inferd`: flags are kept as text until file and variables have been read.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/arguments.h"

namespace inferd {

/// What the flags of `serve` said.
struct ServeFlags {
  std::string config_file;                                  // empty: none
  std::vector<std::string> models;                          // "[NAME=]PATH"
  std::vector<std::string> adapters;                        // --adapter, as given
  std::vector<std::string> drafts;                          // --draft-model, as given
  std::vector<std::pair<std::string, std::string>> values;  // key, text
};

/// "--max-batch-tokens" for "max_batch_tokens".
std::string flag_name(std::string_view key);

/// The outcome of parsing: flags, or why there are none.
struct ParsedFlags {
  std::optional<ServeFlags> flags;
  EarlyExit early_exit;
};

/// Parses the arguments after `inferd serve`. Never exits or prints.
ParsedFlags parse_serve_flags(std::span<const std::string> args);

}  // namespace inferd
