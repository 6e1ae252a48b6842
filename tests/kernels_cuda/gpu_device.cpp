// GpuDevice: memory and launches through the CUDA driver.
#include "tests/kernels_cuda/gpu_device.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace inferd::cuda::test {
namespace {

constexpr int kMaxDynamicSharedBytes = 8;  // CUfunction_attribute
void* const kParamBufferPointer = reinterpret_cast<void*>(1);
void* const kParamBufferSize = reinterpret_cast<void*>(2);

DevicePointer address(const void* device) { return reinterpret_cast<DevicePointer>(device); }

}  // namespace

std::string ptx_path(Kernel kernel, int arch) {
  const char* folder = std::getenv("INFERD_PTX_DIR");
  return std::string(folder != nullptr ? folder : INFERD_PTX_DIR) + "/" + kernel_info(kernel).file + ".sm_" +
         std::to_string(arch) + ".ptx";
}

GpuDevice* GpuDevice::get() {
  const char* wanted = std::getenv("INFERD_TEST_GPU");
  if (wanted == nullptr || std::string(wanted) != "1") return nullptr;
  static GpuDevice device;
  return &device;
}

GpuDevice::GpuDevice() : driver_(Driver::open()), context_(driver_, 0), stream_(context_), launcher_(stream_) {}

GpuDevice::~GpuDevice() {
  if (!context_.try_enter()) return;
  for (const auto& [path, module] : older_) context_.api().module_unload(module);
}

void* GpuDevice::allocate(std::size_t bytes) {
  DevicePointer pointer = 0;
  context_.check(context_.api().memory_alloc(&pointer, bytes > 0 ? bytes : 1), "allocate");
  context_.check(context_.api().fill(pointer, 0xff, bytes, stream_.handle()), "fill");
  return reinterpret_cast<void*>(pointer);
}

void GpuDevice::free(void* device) noexcept { context_.api().memory_free(address(device)); }

void GpuDevice::write(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  context_.check(context_.api().copy_to_device(address(device), host, bytes, stream_.handle()), "copy to the GPU");
  stream_.synchronize();
}

void GpuDevice::read(const void* device, void* host, std::size_t bytes) {
  if (bytes == 0) return;
  context_.check(context_.api().copy_to_host(host, address(device), bytes, stream_.handle()), "copy from the GPU");
  stream_.synchronize();
}

FunctionHandle GpuDevice::older_function(int arch, Kernel kernel) {
  const KernelInfo& info = kernel_info(kernel);
  const auto [at, fresh] = older_.emplace(ptx_path(kernel, arch), nullptr);
  if (fresh) {
    std::ifstream in(at->first);
    if (!in) throw std::runtime_error("no PTX at " + at->first + " (INFERD_PTX_DIR)");
    std::ostringstream text;
    text << in.rdbuf();
    context_.check(context_.api().module_load(&at->second, text.str().c_str()), "compile PTX");
  }
  FunctionHandle function = nullptr;
  context_.check(context_.api().module_function(&function, at->second, info.entry), info.entry);
  if (info.dynamic_shared > 0) {
    context_.check(context_.api().function_set_attribute(function, kMaxDynamicSharedBytes, info.dynamic_shared),
                   info.entry);
  }
  return function;
}

void GpuDevice::launch(int arch, Kernel kernel, Grid grid, unsigned shared_bytes, const void* params,
                       std::size_t bytes) {
  const KernelInfo& info = kernel_info(kernel);
  if (arch == this->arch()) {
    launcher_.launch(kernel, grid, shared_bytes, params, bytes);
  } else {
    void* extra[] = {kParamBufferPointer, const_cast<void*>(params), kParamBufferSize, &bytes, nullptr};
    context_.check(
        context_.api().launch(older_function(arch, kernel), grid.x, grid.y, grid.z, static_cast<unsigned>(info.threads),
                              1, 1, shared_bytes, stream_.handle(), nullptr, extra),
        info.entry);
  }
  stream_.synchronize();
}

}  // namespace inferd::cuda::test
