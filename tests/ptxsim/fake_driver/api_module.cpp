// Modules, functions, launches.
#include <algorithm>
#include <cstring>

#include "tests/ptxsim/fake_driver/driver_state.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::fake;

namespace {

constexpr int kRegistersGuess = 64;  // ptxas decides; the PTX does not say

LoadedModule::Function& function_of(CUfunction handle) {
  if (handle == nullptr) throw ApiFailure{kInvalidHandle};
  return *reinterpret_cast<LoadedModule::Function*>(handle);
}

// Modules of one file are one, unless kernels can leave something in them.
std::shared_ptr<Module> module_of(Driver& d, const void* image) {
  const std::string path = find_ptx(d.settings, image);
  if (path.empty()) return std::make_shared<Module>(Module::parse(static_cast<const char*>(image)));
  if (const auto known = d.modules.find(path); known != d.modules.end()) return known->second;
  auto parsed = std::make_shared<Module>(Module::parse(read_file(path)));
  if (parsed->globals().empty()) d.modules[path] = parsed;
  return parsed;
}

void load(Driver& d, CUmodule* out, const void* image) {
  if (image == nullptr) throw ApiFailure{kInvalidValue};
  auto loaded = std::make_unique<LoadedModule>();
  loaded->device = &d.current();
  loaded->module = module_of(d, image);
  const std::string& target = loaded->module->target();
  if (target.size() < 5 || std::atoi(target.c_str() + 3) > d.settings.arch) throw ApiFailure{kNoBinaryForGpu};
  *out = reinterpret_cast<CUmodule>(loaded.release());
}

}  // namespace

extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return api("cuModuleLoadData", [&](Driver& d) { load(d, module, image); });
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, int*, void**) {
  return api("cuModuleLoadDataEx", [&](Driver& d) { load(d, module, image); });
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return api("cuModuleLoadFatBinary", [&](Driver& d) { load(d, module, image); });
}
CUresult cuModuleUnload(CUmodule module) {
  return api("cuModuleUnload", [&](Driver& d) {
    if (module == nullptr) throw ApiFailure{kInvalidHandle};
    Device& device = *reinterpret_cast<LoadedModule*>(module)->device;
    d.progress_until([&device] {
      return std::all_of(device.streams.begin(), device.streams.end(),
                         [](const Stream* s) { return s->queue.empty(); });
    });
    delete reinterpret_cast<LoadedModule*>(module);
  });
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  return api("cuModuleGetFunction", [&](Driver&) {
    if (handle == nullptr || name == nullptr) throw ApiFailure{kInvalidValue};
    LoadedModule& module = *reinterpret_cast<LoadedModule*>(handle);
    if (!module.module->has_kernel(name)) throw ApiFailure{kNotFound};
    const auto [found, added] = module.functions.try_emplace(name, LoadedModule::Function{&module, name});
    *function = reinterpret_cast<CUfunction>(&found->second);
  });
}
CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
  return api("cuFuncSetAttribute", [&](Driver& d) {
    LoadedModule::Function& function = function_of(handle);
    if (attribute != kFuncMaxDynamicShared) return;  // the others are preferences
    const size_t fixed = function.owner->module->declared(function.name).static_shared_bytes;
    if (value < 0 || fixed + size_t(value) > max_shared_bytes(d.settings.arch)) throw ApiFailure{kInvalidValue};
    function.max_dynamic_shared = value;
  });
}
CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction handle) {
  return api("cuFuncGetAttribute", [&](Driver&) {
    const LoadedModule::Function& function = function_of(handle);
    Module& module = *function.owner->module;
    const Kernel& kernel = attribute == kFuncLocalBytes ? module.kernel(function.name) : module.declared(function.name);
    switch (attribute) {
      case kFuncMaxThreads:
        *value = int(kernel.max_threads);
        break;
      case kFuncSharedBytes:
        *value = int(kernel.static_shared_bytes);
        break;
      case kFuncLocalBytes:
        *value = int(kernel.local_bytes);
        break;
      case kFuncNumRegisters:
        *value = kRegistersGuess;
        break;
      case kFuncMaxDynamicShared:
        *value = function.max_dynamic_shared;
        break;
      default:
        *value = 0;
    }
  });
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction handle, int threads, size_t shared) {
  return api("cuOccupancyMaxActiveBlocksPerMultiprocessor", [&](Driver& d) {
    const LoadedModule::Function& function = function_of(handle);
    const size_t bytes = function.owner->module->declared(function.name).static_shared_bytes + shared + 1024;
    if (threads <= 0) throw ApiFailure{kInvalidValue};
    *blocks = std::min(
        {2048 / threads, int((max_shared_bytes(d.settings.arch) + 1024) / bytes), 65536 / (threads * kRegistersGuess)});
  });
}
CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void** parameters,
                        void** extra) {
  return api("cuLaunchKernel", [&](Driver& d) {
    d.launch(function_of(handle), {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, d.stream(stream),
             parameters, extra);
  });
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction handle, void** parameters, void** extra) {
  return api("cuLaunchKernelEx", [&](Driver& d) {
    if (c == nullptr) throw ApiFailure{kInvalidValue};
    d.launch(function_of(handle), {c->gridDimX, c->gridDimY, c->gridDimZ}, {c->blockDimX, c->blockDimY, c->blockDimZ},
             c->sharedMemBytes, d.stream(c->hStream), parameters, extra);
  });
}

}  // extern "C"
