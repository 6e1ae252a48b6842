// DriverLauncher: the Launcher of a real stream; and which GPUs the built kernels run on.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// Empty if kernels of this build run on a GPU of compute capability `arch` (major * 10 + minor), else why not.
std::string arch_problem(int arch);

/// Loads all kernels onto the stream's GPU once. One thread at a time, which has entered the context.
class DriverLauncher final : public Launcher {
 public:
  /// Throws ConfigError if arch_problem has something to say, and what Driver::check throws.
  explicit DriverLauncher(const Stream& stream);
  ~DriverLauncher() override;
  DriverLauncher(const DriverLauncher&) = delete;

  void launch(Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes) override;
  /// Memory of the caller's.
  void set_workspace(std::byte* data, std::size_t bytes) {
    workspace_ = data;
    workspace_bytes_ = bytes;
  }
  /// Outlives this.
  void set_blas(Blas* blas, const PanelLimits& limits) {
    blas_ = blas;
    panel_limits_ = limits;
  }

 private:
  void load();
  void unload() noexcept;

  const Stream& stream_;
  std::vector<ModuleHandle> modules_;
  std::array<FunctionHandle, kNumKernels> functions_{};
};

}  // namespace inferd::cuda
