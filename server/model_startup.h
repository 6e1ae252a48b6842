// Loading all models of a start-up, each onto its device, before any of them takes its share of the KV memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "server/device_groups.h"
#include "server/served_model.h"

namespace inferd {

struct StartupOptions {
  std::int64_t max_queued_inputs = 4096;
  WeightCache weight_cache{};  // of weights quantised at load
  int threads = 0;             // that quantise them; 0: all cores
  std::string build{};         // goes into the fingerprints
  std::function<void(const std::string& model, std::size_t done_bytes, std::size_t total_bytes)> progress;
};

/// Loads `specs` in order and adds them to `models`. A model that chose a GPU by itself and does not fit there runs on
/// the processor; every other failure is thrown (FatalErrors).
void load_all_models(const std::vector<ModelSpec>& specs, const GpuList& gpus, DeviceGroups& groups, ModelTable& models,
                     const StartupOptions& options);

}  // namespace inferd
