// Loading the images of this binary, and launching their kernels.
#include "kernels/cuda/driver_launcher.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/images.h"

namespace inferd::cuda {
namespace {

constexpr int kStaticSharedBytes = 1;  // CUfunction_attribute
constexpr int kMaxDynamicSharedBytes = 8;

// What stands before the values in cuLaunchKernel's `extra`.
void* const kParamBufferPointer = reinterpret_cast<void*>(1);
void* const kParamBufferSize = reinterpret_cast<void*>(2);

}  // namespace

std::string arch_problem(int arch) {
  const std::vector<int>& built = image_archs();
  if (built.empty()) return "this build has no CUDA kernels (nvcc was not there: scripts/setup --cuda installs one)";
  // Machine code runs on its own major version from its minor version on; the last one's PTX on all that is newer.
  const bool runs = arch >= built.back() || std::any_of(built.begin(), built.end(), [arch](int image) {
                      return image / 10 == arch / 10 && image <= arch;
                    });
  if (runs) return "";
  std::string list;
  for (const int image : built) list += (list.empty() ? "sm_" : ", sm_") + std::to_string(image);
  return "this GPU is sm_" + std::to_string(arch) + "; built: " + list;
}

DriverLauncher::DriverLauncher(const Stream& stream) : stream_(stream) {
  const Context& context = stream_.context();
  arch_ = context.info().arch();
  multiprocessors_ = context.info().multiprocessors;
  if (const std::string problem = arch_problem(arch_); !problem.empty()) {
    throw ConfigError(context.label() + ": " + problem);
  }
  context.enter();
  try {
    load();
  } catch (...) {
    unload();
    throw;
  }
}

DriverLauncher::~DriverLauncher() {
  if (stream_.context().try_enter()) unload();
}

void DriverLauncher::load() {
  const Context& context = stream_.context();
  const DriverTable& api = context.api();
  std::map<std::string, ModuleHandle> by_file;
  for (const Image& image : images()) {
    ModuleHandle loaded = nullptr;
    context.check(api.module_load(&loaded, image.bytes), "load the kernels");
    modules_.push_back(loaded);
    by_file[image.file] = loaded;
  }
  for (int i = 0; i < kNumKernels; ++i) {
    const KernelInfo& info = kKernels[i];
    FunctionHandle& function = functions_[static_cast<std::size_t>(i)];
    context.check(api.module_function(&function, by_file.at(info.file), info.entry), info.entry);
    if (info.dynamic_shared == 0) continue;
    // An architecture with less shared memory than the kernel's largest configuration is never asked for that one.
    int fixed = 0;
    context.check(api.function_attribute(&fixed, kStaticSharedBytes, function), info.entry);
    const int most = std::min(info.dynamic_shared, context.info().shared_bytes - fixed);
    context.check(api.function_set_attribute(function, kMaxDynamicSharedBytes, most), info.entry);
  }
}

void DriverLauncher::unload() noexcept {
  for (const ModuleHandle loaded : modules_) stream_.context().api().module_unload(loaded);
  modules_.clear();
}

void DriverLauncher::launch(Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes) {
  const KernelInfo& info = kernel_info(kernel);
  INFERD_CHECK(shared_bytes <= static_cast<unsigned>(info.dynamic_shared));
  // The driver's interface is not const, but it only reads.
  void* extra[] = {kParamBufferPointer, const_cast<void*>(params), kParamBufferSize, &bytes, nullptr};
  const Context& context = stream_.context();
  context.check(
      context.api().launch(functions_[static_cast<std::size_t>(kernel)], grid.x, grid.y, grid.z,
                           static_cast<unsigned>(info.threads), 1, 1, shared_bytes, stream_.handle(), nullptr, extra),
      info.entry);
}

}  // namespace inferd::cuda
