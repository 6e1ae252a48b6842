// What GPUs this machine has, and whether this build can use them; and whether cuBLASLt is there.
#include "base/errors.h"
#include "kernels/backend.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/driver_launcher.h"

namespace inferd {

GpuList list_gpus() {
  GpuList list;
  try {
    const cuda::Driver driver = cuda::Driver::open();
    list.cuda_version = driver.version();
    const std::string old = driver.version_problem();
    for (const cuda::DeviceInfo& info : driver.devices()) {
      GpuInfo gpu{static_cast<int>(list.gpus.size()), info.name, info.memory_bytes, info.arch(), old};
      if (gpu.problem.empty()) gpu.problem = cuda::arch_problem(gpu.arch);
      if (list.gpus.empty() || gpu.problem.empty()) list.problem = gpu.problem;
      list.gpus.push_back(std::move(gpu));
    }
  } catch (const FatalError& error) {
    list.problem = error.what();
  }
  return list;
}

BlasInfo find_cublaslt() {
  try {
    return {.version = cuda::BlasLibrary::open().version(), .problem = {}};
  } catch (const FatalError& error) {
    return {.version = {}, .problem = error.what()};
  }
}

}  // namespace inferd
