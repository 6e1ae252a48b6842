// DeviceGroups: the backends this process computes on, and the engine of each.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/sim/sim_backend.h"
#include "kernels/backend.h"
#include "server/options.h"
#include "server/served_model.h"

namespace inferd {

/// Where a model goes.
struct DeviceChoice {
  int gpu = -1;                  // ordinal; -1: the processor
  std::vector<int> others = {};  // further GPUs that its matrices are divided between
  bool may_fall_back = false;    // nobody asked for that GPU: the processor will do
  int gpu_layers = kAutoLayers;  // how many of its last layers go to the GPU
  /// All ordinals; of the processor -1.
  std::vector<int> gpus() const;
};

/// How many layers a valid `gpu_layers` asks for: kAutoLayers, kAllLayers or a number.
int layers_asked(const std::string& gpu_layers);

/// True if `spec` could go to a GPU if there is one.
bool may_use_gpu(const ModelSpec& spec);

/// What the model's `device`, `gpu_layers` and `tensor_parallel` come to on a machine with these GPUs. Throws
/// ConfigError, naming the model, if a GPU is asked for that cannot be used.
DeviceChoice choose_device(const ModelSpec& spec, const GpuList& gpus);

/// "GPU 0 (NVIDIA L4, sm_89, 22.5 GiB)" (of several all, with " + "), or the processor and why no GPU serves instead.
std::string describe_choice(const DeviceChoice& choice, const GpuList& gpus);

struct DeviceOptions {
  CpuBackendOptions cpu;
  EngineOptions cpu_engine, gpu_engine;
  double gpu_memory_fraction = 0.9;
  bool batch_invariant = true;
};

/// The backend of chosen GPUs; `options` but for the ordinal. Throws ConfigError, MemoryError.
std::unique_ptr<Backend> make_gpu_backend(const std::vector<int>& gpus, CudaBackendOptions options);

/// Models on one device, or divided between the same ones, share its backend and its engine's thread.
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

  /// The group of DeviceChoice::gpus, its backend made and logged at first use. Throws ConfigError (also for GPUs of
  /// which only some are another group's), MemoryError.
  DeviceGroup& group(const std::vector<int>& gpus);
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
    for (const auto& [ordinals, group] : gpus_) function(group);
  }

  const Clock& clock_;
  const DeviceOptions options_;
  SimBackend sim_backend_;
  DeviceGroup processor_;
  std::map<std::vector<int>, DeviceGroup> gpus_;  // by ordinals
};

}  // namespace inferd
