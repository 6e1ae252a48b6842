// Choosing devices, and the engines of those chosen.
#include "server/device_groups.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::string_view kOrdinal = "cuda:";

std::string gpu_text(const GpuInfo& gpu) {
  char size[32];
  std::snprintf(size, sizeof size, "%.1f GiB", static_cast<double>(gpu.memory_bytes) / (1024.0 * 1024.0 * 1024.0));
  return "GPU " + std::to_string(gpu.ordinal) + " (" + log_safe(gpu.name) + ", sm_" + std::to_string(gpu.arch) + ", " +
         size + ")";
}

/// Why cuda:`ordinal` cannot be used, or empty.
std::string ordinal_problem(int ordinal, const GpuList& gpus) {
  if (gpus.gpus.empty()) return gpus.problem;
  if (static_cast<std::size_t>(ordinal) >= gpus.gpus.size()) {
    return "this machine has " + std::to_string(gpus.gpus.size()) + (gpus.gpus.size() == 1 ? " GPU" : " GPUs");
  }
  return gpus.gpus[static_cast<std::size_t>(ordinal)].problem;
}

/// N of "cuda:N"; `otherwise` if the device names none.
int ordinal_of(const std::string& device, int otherwise) {
  if (device.starts_with(kOrdinal)) {
    std::from_chars(device.data() + kOrdinal.size(), device.data() + device.size(), otherwise);
  }
  return otherwise;
}

}  // namespace

int layers_asked(const std::string& gpu_layers) {
  if (gpu_layers == "all") return kAllLayers;
  int number = kAutoLayers;
  std::from_chars(gpu_layers.data(), gpu_layers.data() + gpu_layers.size(), number);  // "auto" leaves it as it is
  return number;
}

bool may_use_gpu(const ModelSpec& spec) {
  if (spec.simulated()) return spec.device.starts_with("cuda");  // to be told that there is none
  return spec.tensor_parallel > 1 || (spec.device != "cpu" && spec.gpu_layers != "0");
}

std::vector<int> DeviceChoice::gpus() const {
  std::vector<int> all{gpu};
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

namespace {

/// The GPUs of a model that is divided between several: from `first` on, or the first ones that can be used.
DeviceChoice choose_several(const ModelSpec& spec, const GpuList& gpus, int first) {
  const std::string asked = "tensor_parallel: " + std::to_string(spec.tensor_parallel);
  const auto refuse = [&](const std::string& why) {
    throw ConfigError("model " + log_safe(spec.name) + ": " + asked + " " + why);
  };
  if (spec.device == "cpu") refuse("needs GPUs, but device is cpu");
  if (spec.gpu_layers != "auto" && spec.gpu_layers != "all") {
    refuse("and gpu_layers: " + spec.gpu_layers + " exclude one another");
  }
  std::vector<int> chosen;
  for (const GpuInfo& gpu : gpus.gpus) {
    if (static_cast<std::int64_t>(chosen.size()) == spec.tensor_parallel || gpu.ordinal < first) continue;
    if (gpu.problem.empty()) {
      chosen.push_back(gpu.ordinal);
    } else if (first >= 0) {
      refuse("needs GPU " + std::to_string(gpu.ordinal) + ": " + gpu.problem);
    }
  }
  if (static_cast<std::int64_t>(chosen.size()) < spec.tensor_parallel) {
    refuse("needs as many usable NVIDIA GPUs" + (first >= 0 ? " from device " + spec.device + " on" : "") + ", found " +
           std::to_string(chosen.size()) + (gpus.problem.empty() ? "" : ": " + gpus.problem));
  }
  return {.gpu = chosen[0], .others = {chosen.begin() + 1, chosen.end()}};
}

/// As choose_device, whatever is to run there.
DeviceChoice choose_place(const ModelSpec& spec, const GpuList& gpus) {
  const std::string& device = spec.device;
  const std::string& layers = spec.gpu_layers;
  const auto refuse = [&](const std::string& why) { throw ConfigError("model " + log_safe(spec.name) + ": " + why); };
  const bool cuda = device.starts_with("cuda"), some = layers != "auto" && layers != "0";
  if (spec.tensor_parallel > 1 && !spec.simulated()) {
    return choose_several(spec, gpus, ordinal_of(device, -1));
  }
  if (cuda && layers == "0") refuse("gpu_layers: 0 leaves nothing for device " + device);
  if (device == "cpu" && some) refuse("gpu_layers: " + layers + " needs a GPU, but device is cpu");
  if (!may_use_gpu(spec)) return {};
  const auto usable = std::find_if(gpus.gpus.begin(), gpus.gpus.end(), [](const auto& g) { return g.problem.empty(); });
  std::string problem = gpus.problem;
  const int ordinal = ordinal_of(device, problem.empty() && usable != gpus.gpus.end() ? usable->ordinal : -1);
  if (device.starts_with(kOrdinal)) problem = ordinal_problem(ordinal, gpus);
  if (!cuda && !some) return {.gpu = ordinal, .may_fall_back = ordinal >= 0};
  if (!problem.empty()) {
    refuse((cuda ? "device: " + device : "gpu_layers: " + layers) + " needs a usable NVIDIA GPU: " + problem);
  }
  return {.gpu = ordinal, .gpu_layers = layers_asked(layers)};
}

}  // namespace

DeviceChoice choose_device(const ModelSpec& spec, const GpuList& gpus) {
  const DeviceChoice choice = choose_place(spec, gpus);
  if (!spec.draft_path.empty() && choice.gpu >= 0) {
    throw ConfigError("model " + log_safe(spec.name) +
                      ": draft_model works on the CPU only, and this model goes to a GPU: leave it out, or set device: "
                      "cpu");
  }
  return choice;
}

std::string describe_choice(const DeviceChoice& choice, const GpuList& gpus) {
  if (choice.gpu >= 0) {
    std::string text;
    for (const int gpu : choice.gpus()) {
      text += (text.empty() ? "" : " + ") + gpu_text(gpus.gpus.at(static_cast<std::size_t>(gpu)));
    }
    return text;
  }
  return gpus.problem.empty() ? "CPU" : "CPU: " + gpus.problem;
}

DeviceGroups::DeviceGroups(const Clock& clock, const DeviceOptions& options) : clock_(clock), options_(options) {
  processor_.engine = std::make_unique<Engine>(clock_);
  processor_.engine_options = options.cpu_engine;
}

std::unique_ptr<Backend> make_gpu_backend(const std::vector<int>& gpus, CudaBackendOptions options) {
  if (gpus.size() > 1) {
    return make_tensor_parallel_backend({.ordinals = gpus,
                                         .activations = options.activations,
                                         .memory_fraction = options.memory_fraction,
                                         .batch_invariant = options.batch_invariant,
                                         .panels = options.panels});
  }
  options.ordinal = gpus[0];
  return make_cuda_backend(options);
}

DeviceGroup& DeviceGroups::group(const std::vector<int>& gpus) {
  if (gpus[0] < 0) {
    if (!processor_.backend) {
      processor_.backend = make_cpu_backend(options_.cpu);
      spdlog::info("backend {}", processor_.backend->name());
    }
    return processor_;
  }
  if (const auto found = gpus_.find(gpus); found != gpus_.end()) return found->second;
  for (const auto& [taken, group] : gpus_) {
    for (const int gpu : taken) {
      if (std::find(gpus.begin(), gpus.end(), gpu) == gpus.end()) continue;
      throw ConfigError("tensor_parallel: GPU " + std::to_string(gpu) +
                        " has models alone and together with others: give all its models the same GPUs");
    }
  }
  DeviceGroup made;
  made.backend = make_gpu_backend(gpus, {.activations = options_.cpu.activations,
                                         .memory_fraction = options_.gpu_memory_fraction,
                                         .batch_invariant = options_.batch_invariant});
  spdlog::info("backend {}", log_safe(made.backend->name()));
  made.engine = std::make_unique<Engine>(clock_);
  made.engine_options = options_.gpu_engine;
  made.gpu = true;
  return gpus_.emplace(gpus, std::move(made)).first->second;
}

Backend& DeviceGroups::host_of(DeviceGroup& group) {
  if (!group.host) group.host = make_cpu_backend(options_.cpu);
  return *group.host;
}

void DeviceGroups::start() {
  for_each([](const DeviceGroup& group) { group.engine->start(); });
}

void DeviceGroups::begin_drain() {
  for_each([](const DeviceGroup& group) { group.engine->begin_drain(); });
}

bool DeviceGroups::idle() const {
  bool all = true;
  for_each([&](const DeviceGroup& group) { all = group.engine->idle() && all; });
  return all;
}

void DeviceGroups::stop() {
  for_each([](const DeviceGroup& group) { group.engine->stop(); });
}

TimePoint DeviceGroups::last_progress() const {
  TimePoint oldest = TimePoint::max();
  for_each([&](const DeviceGroup& group) { oldest = std::min(oldest, group.engine->last_progress()); });
  return oldest;
}

std::string DeviceGroups::failure() const {
  std::string first;
  for_each([&](const DeviceGroup& group) {
    if (first.empty()) first = group.engine->failure();
  });
  return first;
}

ExitCode DeviceGroups::failure_code() const {
  ExitCode first = ExitCode::ok;
  for_each([&](const DeviceGroup& group) {
    if (first == ExitCode::ok) first = group.engine->failure_code();
  });
  return first;
}

}  // namespace inferd
