// The process's logger, and how untrusted text and sizes enter its lines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <spdlog/spdlog.h>

namespace inferd {

/// Routes spdlog to stderr with one constant pattern. level: trace|debug|info|warn|error.
void init_logging(std::string_view level);

/// `text` with control bytes, line separators and invalid UTF-8 written as \xNN, cut at 256 bytes.
std::string log_safe(std::string_view text);

/// "494 MB"
std::string megabytes(std::size_t bytes);

}  // namespace inferd
