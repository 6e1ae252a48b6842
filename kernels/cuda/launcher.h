// Launcher: where the host halves of the CUDA ops queue their kernels, and what they may know of the device.
#pragma once

#include <cstddef>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/registry.h"

namespace inferd::cuda {

class Blas;

struct Grid {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};

/// One stream of one device. Kernels of one launcher run in the order they were queued. The block size is the
/// registry's. The product's launcher is the driver's stream; tests put the PTX interpreter behind it.
class Launcher {
 public:
  virtual ~Launcher() = default;

  /// Queues `kernel`, whose only parameter is a struct of `bytes` bytes (dev/*_params.h), copied before this returns.
  virtual void launch(Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes) = 0;

  template <typename Params>
  void run(Kernel kernel, Grid grid, const Params& params, unsigned shared_bytes = 0) {
    static_assert(std::is_trivially_copyable_v<Params>);
    launch(kernel, grid, shared_bytes, &params, sizeof params);
  }

  int arch() const { return arch_; }                        // compute capability: major * 10 + minor
  int multiprocessors() const { return multiprocessors_; }  // SMs; never decides an order of additions
  /// Device memory an op may use until it ends (partial sums, converted rows); sized by Backend::reserve_workspace.
  std::byte* workspace() const { return workspace_; }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// cuBLASLt on this stream; null: results are to be the same for every number of tokens.
  Blas* blas() const { return blas_; }
  const PanelLimits& panel_limits() const { return panel_limits_; }

 protected:
  int arch_ = 0;
  int multiprocessors_ = 0;
  std::byte* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
  Blas* blas_ = nullptr;
  PanelLimits panel_limits_;
};

}  // namespace inferd::cuda
