// Asks the CUDA driver for its devices through dlopen, so one binary runs with and without a driver.
#include "server/commands/gpu_probe.h"

#include <dlfcn.h>

#include <array>
#include <memory>

namespace inferd {
namespace {

// The few entry points of the CUDA driver API that a listing needs (CUDA Driver API reference, "Device Management").
struct DriverApi {
  int (*init)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*device_name)(char*, int, int) = nullptr;
  int (*device_memory)(std::size_t*, int) = nullptr;
  int (*device_attribute)(int*, int, int) = nullptr;
};
constexpr int kAttributeComputeMajor = 75;
constexpr int kAttributeComputeMinor = 76;

template <typename Function>
bool bind(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  return *out != nullptr;
}

bool bind_all(void* library, DriverApi* api) {
  return bind(library, "cuInit", &api->init) && bind(library, "cuDriverGetVersion", &api->driver_version) &&
         bind(library, "cuDeviceGetCount", &api->device_count) && bind(library, "cuDeviceGet", &api->device_get) &&
         bind(library, "cuDeviceGetName", &api->device_name) &&
         bind(library, "cuDeviceTotalMem_v2", &api->device_memory) &&
         bind(library, "cuDeviceGetAttribute", &api->device_attribute);
}

}  // namespace

GpuReport probe_gpus() {
  GpuReport report;
  const auto close = [](void* library) {
    if (library != nullptr) dlclose(library);
  };
  const std::unique_ptr<void, decltype(close)> library(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), close);
  if (!library) {
    report.problem = "no NVIDIA driver (libcuda.so.1 not found)";
    return report;
  }
  report.driver_found = true;
  DriverApi api;
  if (!bind_all(library.get(), &api)) {
    report.problem = "the NVIDIA driver is too old (entry points are missing)";
    return report;
  }
  if (const int status = api.init(0); status != 0) {
    report.problem = "the NVIDIA driver did not start (cuInit error " + std::to_string(status) + ")";
    return report;
  }
  api.driver_version(&report.cuda_version);
  int count = 0;
  api.device_count(&count);
  for (int index = 0; index < count; ++index) {
    int device = 0;
    if (api.device_get(&device, index) != 0) continue;
    GpuInfo gpu;
    std::array<char, 256> name{};
    if (api.device_name(name.data(), static_cast<int>(name.size() - 1), device) == 0) gpu.name = name.data();
    api.device_memory(&gpu.memory_bytes, device);
    api.device_attribute(&gpu.compute_major, kAttributeComputeMajor, device);
    api.device_attribute(&gpu.compute_minor, kAttributeComputeMinor, device);
    report.devices.push_back(gpu);
  }
  if (report.devices.empty()) report.problem = "the NVIDIA driver sees no GPU";
  return report;
}

}  // namespace inferd
