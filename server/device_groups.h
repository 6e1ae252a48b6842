// DeviceGroups: the backends this process computes on, and the engine of each.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/sim/sim_backend.h"
#include "kernels/backend.h"
#include "server/options.h"
#include "server/served_model.h"

namespace inferd {

/// Where a model goes.
struct DeviceChoice {
  int gpu = -1;                  // ordinal; -1: the processor
  bool may_fall_back = false;    // nobody asked for that GPU: the processor will do
  int gpu_layers = kAutoLayers;  // how many of its last layers go to the GPU
};

/// How many layers a valid `gpu_layers` asks for: kAutoLayers, kAllLayers or a number.
int layers_asked(const std::string& gpu_layers);

/// True if `spec` could go to a GPU if there is one.
bool may_use_gpu(const ModelSpec& spec);

/// What the model's `device` and `gpu_layers` come to on a machine with these GPUs. Throws ConfigError, naming the
/// model, if a GPU is asked for that cannot be used.
DeviceChoice choose_device(const ModelSpec& spec, const GpuList& gpus);

/// "GPU 0 (NVIDIA L4, sm_89, 22.5 GiB)", or the processor and why no GPU serves instead.
std::string describe_choice(const DeviceChoice& choice, const GpuList& gpus);

struct DeviceOptions {
  CpuBackendOptions cpu;
  EngineOptions cpu_engine, gpu_engine;
  double gpu_memory_fraction = 0.9;
};

/// Models on one device share its backend and its engine's thread.
struct DeviceGroup {
  std::unique_ptr<Backend> backend;  // of the processor: null until a model needs it
  std::unique_ptr<Backend> host;     // of a GPU: for layers that stay on the processor; null until a model needs it
  std::unique_ptr<Engine> engine;
  EngineOptions engine_options;
  bool gpu = false;
};

/// Filled by one thread while models load; afterwards its methods are thread-safe. Outlives every ServedModel.
class DeviceGroups {
 public:
  DeviceGroups(const Clock& clock, const DeviceOptions& options);

  /// The group of a device, its backend made and logged at first use. Throws ConfigError, MemoryError.
  DeviceGroup& group(int gpu);
  /// The group's own backend on the processor, which its engine's thread alone uses. Made at first use.
  Backend& host_of(DeviceGroup& group);
  /// Where simulated models run: the processor's engine, which has no backend until a real model needs one.
  DeviceGroup& processor() { return processor_; }
  SimBackend& sim_backend() { return sim_backend_; }

  // As Engine, of all engines together.
  void start();
  void begin_drain();
  bool idle() const;
  void stop();
  TimePoint last_progress() const;  // of the one that has been silent for longest
  std::string failure() const;      // the first there is, or empty
  ExitCode failure_code() const;

 private:
  template <typename Function>
  void for_each(Function function) const {
    function(processor_);
    for (const auto& [ordinal, group] : gpus_) function(group);
  }

  const Clock& clock_;
  const DeviceOptions options_;
  SimBackend sim_backend_;
  DeviceGroup processor_;
  std::map<int, DeviceGroup> gpus_;  // by ordinal
};

}  // namespace inferd
