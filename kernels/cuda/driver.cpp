// Loads the CUDA driver, lists its devices, and turns its error codes into our errors.
#include "kernels/cuda/driver.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>

#include "base/errors.h"

namespace inferd::cuda {
namespace {

constexpr int kOutOfMemory = 2;
constexpr int kNoDevice = 100;
constexpr int kMultiprocessors = 16;  // CUdevice_attribute
constexpr int kComputeMajor = 75;
constexpr int kComputeMinor = 76;
constexpr int kSharedBytes = 97;

template <typename Function>
void bind(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out == nullptr) {
    throw ConfigError("the NVIDIA driver is too old: expected branch " + std::to_string(Driver::kLeastBranch) +
                      " or newer, found one without " + name);
  }
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

bool is_sticky(int status) {
  // Uncorrectable memory or link errors, a contained fault, and what a kernel can do to its context.
  constexpr std::array kSticky = {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719};
  return std::find(kSticky.begin(), kSticky.end(), status) != kSticky.end();
}

Driver Driver::open(const char* library) {
  // NODELETE: the driver has threads of its own, which outlive whoever opened it.
  const std::shared_ptr<void> handle(dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), [](void* loaded) {
    if (loaded != nullptr) dlclose(loaded);
  });
  if (!handle) throw ConfigError("no NVIDIA driver (" + std::string(library) + " not found)");
  DriverTable table;
  bind(handle.get(), "cuInit", &table.init);
  bind(handle.get(), "cuDriverGetVersion", &table.driver_version);
  bind(handle.get(), "cuGetErrorName", &table.error_name);
  bind(handle.get(), "cuDeviceGetCount", &table.device_count);
  bind(handle.get(), "cuDeviceGet", &table.device_get);
  bind(handle.get(), "cuDeviceGetName", &table.device_name);
  bind(handle.get(), "cuDeviceTotalMem_v2", &table.device_memory);
  bind(handle.get(), "cuDeviceGetAttribute", &table.device_attribute);
  bind(handle.get(), "cuDevicePrimaryCtxRetain", &table.context_retain);
  bind(handle.get(), "cuDevicePrimaryCtxRelease_v2", &table.context_release);
  bind(handle.get(), "cuCtxSetCurrent", &table.context_set);
  bind(handle.get(), "cuMemGetInfo_v2", &table.memory_info);
  bind(handle.get(), "cuMemAlloc_v2", &table.memory_alloc);
  bind(handle.get(), "cuMemFree_v2", &table.memory_free);
  bind(handle.get(), "cuMemHostAlloc", &table.pinned_alloc);
  bind(handle.get(), "cuMemFreeHost", &table.pinned_free);
  bind(handle.get(), "cuMemcpyHtoDAsync_v2", &table.copy_to_device);
  bind(handle.get(), "cuMemcpyDtoHAsync_v2", &table.copy_to_host);
  bind(handle.get(), "cuMemsetD8Async", &table.fill);
  bind(handle.get(), "cuStreamCreate", &table.stream_create);
  bind(handle.get(), "cuStreamDestroy_v2", &table.stream_destroy);
  bind(handle.get(), "cuStreamSynchronize", &table.stream_synchronize);
  bind(handle.get(), "cuStreamQuery", &table.stream_query);
  bind(handle.get(), "cuEventCreate", &table.event_create);
  bind(handle.get(), "cuEventDestroy_v2", &table.event_destroy);
  bind(handle.get(), "cuEventRecord", &table.event_record);
  bind(handle.get(), "cuEventSynchronize", &table.event_synchronize);
  bind(handle.get(), "cuModuleLoadData", &table.module_load);
  bind(handle.get(), "cuModuleUnload", &table.module_unload);
  bind(handle.get(), "cuModuleGetFunction", &table.module_function);
  bind(handle.get(), "cuFuncGetAttribute", &table.function_attribute);
  bind(handle.get(), "cuFuncSetAttribute", &table.function_set_attribute);
  bind(handle.get(), "cuLaunchKernel", &table.launch);
  bind(handle.get(), "cuStreamBeginCapture_v2", &table.capture_begin);
  bind(handle.get(), "cuStreamEndCapture", &table.capture_end);
  bind(handle.get(), "cuGraphInstantiateWithFlags", &table.graph_instantiate);
  bind(handle.get(), "cuGraphLaunch", &table.graph_launch);
  bind(handle.get(), "cuGraphExecDestroy", &table.graph_exec_destroy);
  bind(handle.get(), "cuGraphDestroy", &table.graph_destroy);
  Driver driver(table);
  driver.library_ = handle;
  return driver;
}

Driver::Driver(const DriverTable& table) : table_(table) {
  const int status = table_.init(0);
  if (status == kNoDevice) throw ConfigError("the NVIDIA driver sees no GPU");
  if (status != 0) throw ConfigError("the NVIDIA driver did not start: " + describe(status));
  check(table_.driver_version(&version_), "ask for the driver's version");
}

std::string Driver::version_problem() const {
  if (version_ >= kLeastVersion) return "";
  return "the NVIDIA driver is too old: expected branch " + std::to_string(kLeastBranch) + " or newer (CUDA " +
         version_text(kLeastVersion) + "), found one for CUDA " + version_text(version_);
}

std::vector<DeviceInfo> Driver::devices() const {
  int count = 0;
  check(table_.device_count(&count), "count GPUs");
  if (count <= 0) throw ConfigError("the NVIDIA driver sees no GPU");
  std::vector<DeviceInfo> found;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    const std::string action = "ask about GPU " + std::to_string(ordinal);
    int device = 0;
    DeviceInfo info;
    std::array<char, 256> name{};
    check(table_.device_get(&device, ordinal), action);
    check(table_.device_name(name.data(), static_cast<int>(name.size() - 1), device), action);
    check(table_.device_memory(&info.memory_bytes, device), action);
    check(table_.device_attribute(&info.compute_major, kComputeMajor, device), action);
    check(table_.device_attribute(&info.compute_minor, kComputeMinor, device), action);
    check(table_.device_attribute(&info.multiprocessors, kMultiprocessors, device), action);
    check(table_.device_attribute(&info.shared_bytes, kSharedBytes, device), action);
    info.name = name.data();
    found.push_back(info);
  }
  return found;
}

void Driver::check(int status, const std::string& action) const {
  if (status == 0) return;
  const std::string message = "cannot " + action + ": " + describe(status);
  if (status == kOutOfMemory) throw MemoryError(message);
  throw FatalError(is_sticky(status) ? ExitCode::gpu_lost : ExitCode::internal, message);
}

std::string Driver::describe(int status) const {
  const char* name = nullptr;
  if (table_.error_name(status, &name) != 0 || name == nullptr) name = "CUDA error";
  return std::string(name) + " (" + std::to_string(status) + ")";
}

}  // namespace inferd::cuda
