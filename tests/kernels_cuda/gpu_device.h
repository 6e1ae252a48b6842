// GpuDevice: a real GPU under the tests of kernels, in place of the PTX interpreter.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/driver_launcher.h"

namespace inferd::cuda::test {

/// GPU 0 and one stream. With the architecture of the GPU it runs the machine code of this binary; with an older one
/// the PTX of that architecture, which the driver compiles.
class GpuDevice {
 public:
  /// The GPU that INFERD_TEST_GPU=1 asks for; null without that variable. Throws what Driver::open throws.
  static GpuDevice* get();

  GpuDevice();
  ~GpuDevice();

  int arch() const { return context_.info().arch(); }
  int multiprocessors() const { return context_.info().multiprocessors; }
  void* allocate(std::size_t bytes);  // every byte 0xff
  void free(void* device) noexcept;
  void write(void* device, const void* host, std::size_t bytes);
  void read(const void* device, void* host, std::size_t bytes);
  /// Waits until the kernel has run; throws what went wrong in it.
  void launch(int arch, Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes);

 private:
  FunctionHandle older_function(int arch, Kernel kernel);

  Driver driver_;
  Context context_;
  Stream stream_;
  DriverLauncher launcher_;
  std::map<std::string, ModuleHandle> older_;  // by path of the PTX
};

/// Where the PTX files are: INFERD_PTX_DIR, or the build's.
std::string ptx_path(Kernel kernel, int arch);

}  // namespace inferd::cuda::test
