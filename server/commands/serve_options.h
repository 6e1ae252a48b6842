// From settings to the options of engine and server.
#pragma once

#include <vector>

#include "config/load_settings.h"
#include "config/settings.h"
#include "engine/options.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "kernels/backend.h"
#include "server/device_groups.h"
#include "server/options.h"

namespace inferd {

/// What this machine's GPUs are, unless no model could go to one. Throws ConfigError if a model asks for a device that
/// this machine or build cannot offer, or cuBLASLt is wanted and not there.
GpuList check_devices(const Settings& settings);
/// What is set and changes nothing on this machine, a sentence each.
std::vector<std::string> without_effect(const Settings& settings, const GpuList& gpus);

HttpOptions http_options(const Settings& settings);
AccessOptions access_options(const Settings& settings);
ApiOptions api_options(const Settings& settings);
EngineOptions engine_options(const Settings& settings, bool gpu = false);
CpuBackendOptions cpu_options(const Settings& settings);
DeviceOptions device_options(const Settings& settings);
std::vector<ModelSpec> model_specs(const Settings& settings);
/// `cache_dir`, or where this environment keeps caches: systemd's CacheDirectory, $XDG_CACHE_HOME/inferd,
/// ~/.cache/inferd; nowhere if it names no such place.
WeightCache weight_cache(const Settings& settings, const Environment& environment);

}  // namespace inferd
