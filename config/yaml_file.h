// The configuration file: a small, strict reading of YAML.
#pragma once

#include <string>

#include "config/settings.h"

namespace inferd {

constexpr std::size_t kMaxConfigBytes = 256u << 10;

/// Applies the YAML file at `path` to `settings`. Refuses files above 256 KiB, anchors, aliases and tags, nesting
/// beyond what keys need, duplicate and unknown keys. Throws ConfigError "FILE:LINE: KEY: expected …, found …".
void apply_yaml_file(Settings& settings, const std::string& path);
/// The same for text already in memory; `name` stands for the file in messages.
void apply_yaml_text(Settings& settings, const std::string& text, const std::string& name);

}  // namespace inferd
