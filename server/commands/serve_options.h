// From settings to the options of engine and server.
#pragma once

#include <vector>

#include "config/load_settings.h"
#include "config/settings.h"
#include "engine/options.h"
#include "kernels/backend.h"
#include "server/options.h"

namespace inferd {

/// Throws ConfigError if a device is asked for that this machine or build cannot offer.
void check_device(const Settings& settings);

HttpOptions http_options(const Settings& settings);
AccessOptions access_options(const Settings& settings);
ApiOptions api_options(const Settings& settings);
EngineOptions engine_options(const Settings& settings);
CpuBackendOptions cpu_options(const Settings& settings);
std::vector<ModelSpec> model_specs(const Settings& settings);
/// `cache_dir`, or where this environment keeps caches: systemd's CacheDirectory, $XDG_CACHE_HOME/inferd,
/// ~/.cache/inferd. Empty if it names no such place.
std::string cache_folder(const Settings& settings, const Environment& environment);

}  // namespace inferd
