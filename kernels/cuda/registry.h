// Names of the CUDA kernels, and what the host must know of each (registry.def).
#pragma once

namespace inferd::cuda {

enum class Kernel {
#define KERNEL(entry, file, threads, registers, shared) entry,
#include "kernels/cuda/registry.def"
#undef KERNEL
};

struct KernelInfo {
  const char* entry;   // its extern "C" name
  const char* file;    // the .cu file, see Image::file
  int threads;         // of every block it is launched with
  int dynamic_shared;  // most bytes a launch may ask for
};

inline constexpr KernelInfo kKernels[] = {
#define KERNEL(entry, file, threads, registers, shared) {#entry, #file, threads, shared},
#include "kernels/cuda/registry.def"
#undef KERNEL
};
inline constexpr int kNumKernels = sizeof kKernels / sizeof kKernels[0];

constexpr const KernelInfo& kernel_info(Kernel kernel) { return kKernels[static_cast<int>(kernel)]; }

}  // namespace inferd::cuda
