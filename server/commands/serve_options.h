// From settings to the options of engine and server.
#pragma once

#include <vector>

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

}  // namespace inferd
