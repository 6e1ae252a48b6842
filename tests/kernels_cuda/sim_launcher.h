// SimLauncher: kernels of the product run on the PTX interpreter, under every schedule, and must give the same bits;
// or, if INFERD_TEST_GPU=1, on the GPU.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/launcher.h"
#include "kernels/tensor.h"
#include "tests/kernels_cuda/gpu_device.h"
#include "tests/ptxsim/launch.h"
#include "tests/ptxsim/report.h"

namespace inferd::cuda::test {

/// Runs launches at once: three warp orders times early copies in descending blocks and late ones in ascending
/// blocks, each from the same memory; unequal results and
/// anything the interpreter objects to throw. Device memory starts as NaNs and is bounds-checked. On a GPU each launch
/// runs once, and nothing checks bounds (compute-sanitizer does).
class SimLauncher final : public Launcher {
 public:
  /// `arch` is one of built_archs(). `schedules` 1..6: how many of the six to run (a slow shape may take fewer).
  explicit SimLauncher(int arch, std::size_t workspace_bytes = 0, int schedules = 6);
  ~SimLauncher() override;
  SimLauncher(const SimLauncher&) = delete;

  void launch(Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes) override;

  /// Device memory of `bytes`; reading a byte that nobody wrote is a violation if `track`. Freed with the launcher.
  void* allocate(std::size_t bytes, const std::string& name, bool track = false);
  void write(void* device, const void* host, std::size_t bytes);
  void read(const void* device, void* host, std::size_t bytes);

  /// A tensor of `values` in memory of its own that ends where the tensor ends.
  template <typename T>
  Tensor put(const std::vector<T>& values, DType dtype, std::initializer_list<std::int64_t> shape,
             const std::string& name) {
    void* at = allocate(values.size() * sizeof(T), name);
    write(at, values.data(), values.size() * sizeof(T));
    return Tensor(at, dtype, shape);
  }
  /// An output tensor: every byte 0xff, a NaN, until it is written; reading it before is a violation.
  Tensor output(DType dtype, std::initializer_list<std::int64_t> shape, const std::string& name);
  template <typename T>
  std::vector<T> get(const void* device, std::size_t count) {
    std::vector<T> values(count);
    read(device, values.data(), count * sizeof(T));
    return values;
  }

 private:
  void interpret(Kernel kernel, Grid grid, unsigned shared_bytes, std::span<const std::uint8_t> parameters);

  GpuDevice* const gpu_;  // or null: the interpreter
  int schedules_;
  ptxsim::Memory memory_;
  std::vector<std::uint64_t> allocations_;
};

/// The architectures whose PTX this build has, e.g. {80, 90}; on a GPU those that run there. INFERD_TEST_ARCH=90: that
/// one alone; =-90: the others; all of them if none is left.
std::vector<int> built_archs();

/// The kernel as ptxas gets it; parsed once a process.
ptxsim::Module& module_of(Kernel kernel, int arch);

/// What all launches of this process executed on an architecture.
ptxsim::Profile& profile_of(int arch);

/// What mutation runs ask of launches on the interpreter.
struct LaunchWatch {
  std::uint64_t most_instructions = 0;  // of warps; a longer launch is a violation, and nothing is profiled. 0: any
  std::uint64_t longest = 0;            // launch so far, in them
  std::uint64_t sum = 0;                // of all launches so far
};
LaunchWatch& launch_watch();

/// What all launches of this process executed of a kernel, per architecture: last test case of a program. On a GPU,
/// where nothing is counted, a report without faults.
ptxsim::KernelReport report(Kernel kernel, int arch);
/// On a GPU always empty. Empty if at least `share` of the kernel's instructions ran on every architecture, else the
/// lines that did not.
std::string uncovered(Kernel kernel, double share = 0.95);

}  // namespace inferd::cuda::test
