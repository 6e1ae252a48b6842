// SimLauncher: launches on the interpreter, under every schedule, or on a GPU.
#include "tests/kernels_cuda/sim_launcher.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace inferd::cuda::test {
namespace {

std::uint64_t address(const void* device) { return reinterpret_cast<std::uint64_t>(device); }

}  // namespace

ptxsim::Profile& profile_of(int arch) {
  static std::map<int, ptxsim::Profile> profiles;
  return profiles[arch];
}

std::vector<int> built_archs() {
  std::vector<int> archs;
  std::istringstream in(INFERD_CUDA_ARCH_LIST);
  const GpuDevice* gpu = GpuDevice::get();
  for (std::string text; std::getline(in, text, ' ');) {
    const int arch = std::stoi(text);
    if (gpu == nullptr || arch <= gpu->arch()) archs.push_back(arch);
  }
  const char* wanted = std::getenv("INFERD_TEST_ARCH");
  const int only = wanted != nullptr ? std::atoi(wanted) : 0;
  if (only == 0) return archs;
  std::vector<int> some;
  for (const int arch : archs) {
    if (only > 0 ? arch == only : arch != -only) some.push_back(arch);
  }
  return some.empty() ? archs : some;
}

ptxsim::Module& module_of(Kernel kernel, int arch) {
  static std::map<std::string, std::unique_ptr<ptxsim::Module>> modules;
  const std::string path = ptx_path(kernel, arch);
  std::unique_ptr<ptxsim::Module>& module = modules[path];
  if (!module) {
    std::ifstream in(path);
    if (!in) throw std::runtime_error("no PTX at " + path);
    std::ostringstream text;
    text << in.rdbuf();
    module = std::make_unique<ptxsim::Module>(ptxsim::Module::parse(text.str()));
  }
  return *module;
}

LaunchWatch& launch_watch() {
  static LaunchWatch watch;
  return watch;
}

ptxsim::KernelReport report(Kernel kernel, int arch) {
  if (GpuDevice::get() != nullptr) {
    ptxsim::KernelReport unknown;
    unknown.kernel = kernel_info(kernel).entry;
    unknown.coverage = 1;
    return unknown;
  }
  return ptxsim::report_kernel(module_of(kernel, arch).kernel(kernel_info(kernel).entry), profile_of(arch));
}

std::string uncovered(Kernel kernel, double share) {
  std::string text;
  if (GpuDevice::get() != nullptr) return text;
  for (const int arch : built_archs()) {
    const ptxsim::KernelReport found = report(kernel, arch);
    if (found.coverage >= share) continue;
    text += "sm_" + std::to_string(arch) + " " + found.kernel + ": " + std::to_string(found.coverage) + "\n";
    for (const std::string& line : found.never_executed) text += "  " + line + "\n";
  }
  return text;
}

SimLauncher::SimLauncher(int arch, std::size_t workspace_bytes, int schedules)
    : gpu_(GpuDevice::get()), schedules_(schedules) {
  // A launch has megabytes of registers. Memory that went back to the system would be faulted in for the next one.
  [[maybe_unused]] static const bool kept =
      mallopt(M_MMAP_THRESHOLD, 1 << 28) != 0 && mallopt(M_TRIM_THRESHOLD, 1 << 28) != 0;
  arch_ = arch;
  multiprocessors_ = gpu_ != nullptr ? gpu_->multiprocessors() : 4;
  if (workspace_bytes > 0) {
    workspace_ = static_cast<std::byte*>(allocate(workspace_bytes, "workspace"));
    workspace_bytes_ = workspace_bytes;
  }
}

SimLauncher::~SimLauncher() {
  if (gpu_ == nullptr) return;
  for (const std::uint64_t at : allocations_) gpu_->free(reinterpret_cast<void*>(at));
}

void* SimLauncher::allocate(std::size_t bytes, const std::string& name, bool track) {
  allocations_.push_back(gpu_ != nullptr ? address(gpu_->allocate(bytes)) : memory_.allocate(bytes, name, track));
  return reinterpret_cast<void*>(allocations_.back());
}

void SimLauncher::write(void* device, const void* host, std::size_t bytes) {
  gpu_ != nullptr ? gpu_->write(device, host, bytes) : memory_.write(address(device), host, bytes);
}
void SimLauncher::read(const void* device, void* host, std::size_t bytes) {
  gpu_ != nullptr ? gpu_->read(device, host, bytes) : memory_.read(address(device), host, bytes);
}

Tensor SimLauncher::output(DType dtype, std::initializer_list<std::int64_t> shape, const std::string& name) {
  Tensor tensor(nullptr, dtype, shape);
  const std::int64_t width = tensor.dim(tensor.rank - 1);
  tensor.data = allocate(kv_bytes(dtype, tensor.elements() / width, width), name, true);
  return tensor;
}

void SimLauncher::launch(Kernel kernel, Grid grid, unsigned shared_bytes, const void* params, std::size_t bytes) {
  const KernelInfo& info = kernel_info(kernel);
  if (shared_bytes > static_cast<unsigned>(info.dynamic_shared)) {
    throw std::runtime_error(std::string(info.entry) + ": more dynamic shared memory than the registry allows");
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error(std::string(info.entry) + ": a grid no driver accepts");
  }
  if (gpu_ != nullptr) return gpu_->launch(arch_, kernel, grid, shared_bytes, params, bytes);
  interpret(kernel, grid, shared_bytes, {static_cast<const std::uint8_t*>(params), bytes});
}

void SimLauncher::interpret(Kernel kernel, Grid grid, unsigned shared_bytes, std::span<const std::uint8_t> parameters) {
  const KernelInfo& info = kernel_info(kernel);
  struct Snapshot {
    std::vector<std::uint8_t> bytes, initialised;
  };
  const auto snapshot = [&] {
    std::vector<Snapshot> all;
    for (const std::uint64_t at : allocations_) {
      const ptxsim::Region& region = *memory_.find(at);
      all.push_back({{region.storage, region.storage + region.bytes}, region.initialised});
    }
    return all;
  };
  std::vector<Snapshot> before;
  if (schedules_ > 1) before = snapshot();
  std::vector<Snapshot> first;
  for (int schedule = 0; schedule < schedules_; ++schedule) {
    if (schedule > 0) {
      for (std::size_t i = 0; i < allocations_.size(); ++i) {
        ptxsim::Region& region = *memory_.find(allocations_[i]);
        std::memcpy(region.storage, before[i].bytes.data(), region.bytes);
        region.initialised = before[i].initialised;
      }
    }
    ptxsim::LaunchOptions options;
    options.cp_async = schedule % 2 == 0 ? ptxsim::CopyTiming::late : ptxsim::CopyTiming::early;
    options.descending_blocks = schedule % 2 != 0;
    options.warp_order = schedule / 2;
    LaunchWatch& watch = launch_watch();
    if (watch.most_instructions > 0) {
      options.max_warp_instructions = watch.most_instructions;
    } else {
      options.profile = &profile_of(arch_);
    }
    const ptxsim::LaunchStatistics took =
        ptxsim::launch(module_of(kernel, arch_), info.entry, {grid.x, grid.y, grid.z},
                       {static_cast<unsigned>(info.threads), 1, 1}, shared_bytes, parameters, memory_, options);
    watch.longest = std::max(watch.longest, took.warp_instructions);
    watch.sum += took.warp_instructions;
    if (schedule == 0) {
      if (schedules_ > 1) first = snapshot();
      continue;
    }
    const std::vector<Snapshot> now = snapshot();
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (now[i].bytes != first[i].bytes) {
        throw std::runtime_error(std::string(info.entry) + ": schedule " + std::to_string(schedule) +
                                 " gives other bits in '" + memory_.find(allocations_[i])->name + "'");
      }
    }
  }
}

}  // namespace inferd::cuda::test
