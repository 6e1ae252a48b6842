// cuInit, devices, contexts, memory: the calls without a stream.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/ptxsim/fake_driver/driver_state.h"

using namespace inferd::ptxsim::fake;

namespace {

Device& device_of(Driver& d, CUdevice number) {
  if (number < 0 || size_t(number) >= d.devices.size()) throw ApiFailure{kInvalidDevice};
  return *d.devices[size_t(number)];
}

CUcontext handle(Device* device) { return reinterpret_cast<CUcontext>(device); }

void require(const void* pointer) {
  if (pointer == nullptr) throw ApiFailure{kInvalidValue};
}

int attribute_value(int attribute, int arch) {
  switch (attribute) {
    case kMaxThreadsPerBlock:
      return 1024;
    case kMaxSharedPerBlock:
      return 48 * 1024;
    case kWarpSizeAttribute:
      return 32;
    case kMaxRegistersPerBlock:
      return 65536;
    case kClockRateKhz:
      return 1'500'000;
    case kMultiprocessorCount:
      return 4;
    case kIntegrated:
    case kEccEnabled:
      return 0;
    case kCanMapHostMemory:
    case kConcurrentKernels:
    case kUnifiedAddressing:
    case kCooperativeLaunch:
      return 1;
    case kMemoryClockKhz:
      return 1'000'000;
    case kMemoryBusBits:
      return 256;
    case kL2Bytes:
      return 4 << 20;
    case kMaxThreadsPerMultiprocessor:
      return arch == 75 ? 1024 : 2048;
    case kCapabilityMajor:
      return arch / 10;
    case kCapabilityMinor:
      return arch % 10;
    case kMaxSharedPerMultiprocessor:
      return int(max_shared_bytes(arch)) + 1024;
    case kMaxSharedOptin:
      return int(max_shared_bytes(arch));
    default:
      return 0;
  }
}

void synchronize(Driver& d, Device& device) {
  d.forbid_during_capture();
  d.progress_until([&device] {
    return std::all_of(device.streams.begin(), device.streams.end(), [](const Stream* s) { return s->queue.empty(); });
  });
  d.throw_if_sticky(device);
}

void copy_now(Driver& d, uint64_t to, uint64_t from, size_t bytes) {
  uint8_t *target = d.storage(to, bytes), *source = d.storage(from, bytes);
  if (target == nullptr || source == nullptr) throw ApiFailure{kInvalidValue};
  std::memmove(target, source, bytes);
}

// A blocking copy waits for the device's work first.
CUresult blocking_copy(const char* name, uint64_t to, uint64_t from, size_t bytes) {
  return api(name, [&](Driver& d) {
    synchronize(d, d.current());
    copy_now(d, to, from, bytes);
  });
}

uint64_t address(const void* p) { return reinterpret_cast<uint64_t>(p); }

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
  return api("cuInit", [&](Driver& d) {
    if (flags != 0) throw ApiFailure{kInvalidValue};
    if (d.devices.empty()) throw ApiFailure{kNoDevice};
    d.initialised = true;
  });
}

CUresult cuDriverGetVersion(int* version) {
  return api("cuDriverGetVersion", [&](Driver&) { *version = 13000; });
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  static thread_local char text[32];
  std::snprintf(text, sizeof text, "CUDA error %d", error);
  *name = text;
  return kSuccess;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  Driver& d = driver();
  if (error != kSuccess && !d.last_violation.empty()) {
    *text = d.last_violation.c_str();
    return kSuccess;
  }
  return cuGetErrorName(error, text);
}

CUresult cuDeviceGetCount(int* count) {
  return api("cuDeviceGetCount", [&](Driver& d) { *count = int(d.devices.size()); });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return api("cuDeviceGet", [&](Driver& d) { *device = device_of(d, ordinal).ordinal; });
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return api("cuDeviceGetName", [&](Driver& d) {
    if (length <= 0) throw ApiFailure{kInvalidValue};
    std::snprintf(name, size_t(length), "Simulated GPU %d (sm_%d)", device_of(d, device).ordinal, d.settings.arch);
  });
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return api("cuDeviceTotalMem_v2", [&](Driver& d) {
    device_of(d, device);
    *bytes = d.settings.memory;
  });
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  return api("cuDeviceGetAttribute", [&](Driver& d) {
    device_of(d, device);
    *value = attribute_value(attribute, d.settings.arch);
  });
}

CUresult cuDeviceGetUuid_v2(char* uuid, CUdevice device) {
  return api("cuDeviceGetUuid_v2", [&](Driver& d) { std::memset(uuid, device_of(d, device).ordinal + 1, 16); });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return api("cuDevicePrimaryCtxRetain", [&](Driver& d) { *context = handle(&device_of(d, device)); });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return api("cuDevicePrimaryCtxRelease_v2", [&](Driver& d) { device_of(d, device); });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return api("cuCtxSetCurrent", [&](Driver&) { current_device = reinterpret_cast<Device*>(context); });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return api("cuCtxGetCurrent", [&](Driver&) { *context = handle(current_device); });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return api("cuCtxGetDevice", [&](Driver& d) { *device = d.current().ordinal; });
}

CUresult cuCtxSynchronize() {
  return api("cuCtxSynchronize", [&](Driver& d) { synchronize(d, d.current()); });
}

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return api("cuMemGetInfo_v2", [&](Driver& d) {
    *total = d.settings.memory;
    *free = d.settings.memory - d.current().used;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  return api("cuMemAlloc_v2", [&](Driver& d) {
    Device& device = d.current();
    require(pointer);
    d.forbid_during_capture();
    if (bytes == 0) throw ApiFailure{kInvalidValue};
    if (bytes > d.settings.memory - device.used) throw ApiFailure{kOutOfMemory};
    *pointer = device.memory.allocate(bytes, "device memory of " + std::to_string(bytes) + " bytes");
    device.allocations[*pointer] = bytes;
    device.used += bytes;
  });
}

// Freed at once: work still queued that uses it is caught when it runs.
CUresult cuMemFree_v2(CUdeviceptr pointer) {
  return api("cuMemFree_v2", [&](Driver& d) {
    d.forbid_during_capture();
    for (const auto& device : d.devices) {
      const auto found = device->allocations.find(pointer);
      if (found == device->allocations.end()) continue;
      device->memory.free(pointer);
      device->used -= found->second;
      device->allocations.erase(found);
      return;
    }
    throw ApiFailure{kInvalidValue};
  });
}

// Pinned memory is visible to every device, at its own address.
CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  return api("cuMemHostAlloc", [&](Driver& d) {
    require(pointer);
    if (bytes == 0) throw ApiFailure{kInvalidValue};
    constexpr size_t kPage = 4096;
    auto storage = std::make_unique<uint8_t[]>(bytes + kPage);
    const uint64_t at = (address(storage.get()) + kPage - 1) / kPage * kPage;
    for (const auto& device : d.devices)
      device->memory.map(at, reinterpret_cast<uint8_t*>(at), bytes, "pinned host memory");
    d.pinned[at] = std::move(storage);
    *pointer = reinterpret_cast<void*>(at);
  });
}

CUresult cuMemFreeHost(void* pointer) {
  return api("cuMemFreeHost", [&](Driver& d) {
    if (d.pinned.count(address(pointer)) == 0) throw ApiFailure{kInvalidValue};
    for (const auto& device : d.devices) device->memory.free(address(pointer));
    d.pinned.erase(address(pointer));
  });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device_pointer, void* pointer, unsigned) {
  return api("cuMemHostGetDevicePointer_v2", [&](Driver& d) {
    if (d.current().memory.find(address(pointer)) == nullptr) throw ApiFailure{kInvalidValue};
    *device_pointer = address(pointer);
  });
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return blocking_copy("cuMemcpyHtoD_v2", to, address(from), bytes);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return blocking_copy("cuMemcpyDtoH_v2", address(to), from, bytes);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return blocking_copy("cuMemcpyDtoD_v2", to, from, bytes);
}
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return blocking_copy("cuMemcpy", to, from, bytes); }

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
  return api("cuMemsetD8_v2", [&](Driver& d) {
    synchronize(d, d.current());
    uint8_t* target = d.storage(to, bytes);
    if (target == nullptr || !d.is_device_address(to)) throw ApiFailure{kInvalidValue};
    std::memset(target, value, bytes);
  });
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return api("cuDeviceCanAccessPeer", [&](Driver& d) {
    device_of(d, device);
    device_of(d, peer);
    *can = 0;  // kernels reach their own device's memory only; copies between devices work
  });
}

/// Not CUDA's: what the last kernel that was stopped did wrong, empty if none was. Valid until the next call.
const char* inferd_fake_cuda_last_violation() { return driver().last_violation.c_str(); }

}  // extern "C"
