// What NVIDIA driver and GPUs this machine has, asked of libcuda at run time.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace inferd {

struct GpuInfo {
  std::string name;
  std::size_t memory_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
};

struct GpuReport {
  bool driver_found = false;
  std::string problem;   // why there are no devices, empty if there are
  int cuda_version = 0;  // what the driver supports, e.g. 13000
  std::vector<GpuInfo> devices;
};

/// Loads libcuda.so.1 if it is there. Never throws; starts no context.
GpuReport probe_gpus();

}  // namespace inferd
