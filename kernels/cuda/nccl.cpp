// Loads NCCL, connects GPUs, and turns its error codes into our errors.
#include "kernels/cuda/nccl.h"

#include <dlfcn.h>

#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace inferd::cuda {
namespace {

template <typename Function>
void bind(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out == nullptr)
    throw ConfigError(std::string("NCCL is too old: expected 2.13 or newer, found one without ") + name);
}

}  // namespace

Nccl Nccl::open(const char* library) {
  // NODELETE: NCCL has threads of its own, which outlive whoever opened it.
  const std::shared_ptr<void> handle(dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), [](void* loaded) {
    if (loaded != nullptr) dlclose(loaded);
  });
  if (!handle) {
    throw ConfigError("several GPUs need NCCL (" + std::string(library) +
                      " not found: install it, or add its folder to LD_LIBRARY_PATH)");
  }
  NcclTable table;
  bind(handle.get(), "ncclGetVersion", &table.version);
  bind(handle.get(), "ncclGetErrorString", &table.error_text);
  bind(handle.get(), "ncclGetLastError", &table.last_error);
  bind(handle.get(), "ncclCommInitAll", &table.connect);
  bind(handle.get(), "ncclCommDestroy", &table.destroy);
  bind(handle.get(), "ncclCommAbort", &table.abort);
  bind(handle.get(), "ncclCommGetAsyncError", &table.async_error);
  bind(handle.get(), "ncclGroupStart", &table.group_start);
  bind(handle.get(), "ncclGroupEnd", &table.group_end);
  bind(handle.get(), "ncclAllGather", &table.all_gather);
  Nccl nccl(table);
  nccl.library_ = handle;
  return nccl;
}

std::string Nccl::describe(int result) const {
  const char* text = table_.error_text(result);
  const char* last = table_.last_error(nullptr);
  std::string out = std::string(text != nullptr ? text : "NCCL error") + " (" + std::to_string(result) + ")";
  if (last != nullptr && *last != '\0') out += ", " + std::string(last);
  return out;
}

void Nccl::check(int result, const char* action) const {
  if (result == kNcclSuccess) return;
  throw FatalError(ExitCode::gpu_lost, std::string("NCCL cannot ") + action + ": " + describe(result));
}

Communicators::Communicators(Nccl nccl, const std::vector<int>& ordinals) : nccl_(std::move(nccl)) {
  std::vector<CommunicatorHandle> handles(ordinals.size());
  const int result = nccl_.table().connect(handles.data(), static_cast<int>(handles.size()), ordinals.data());
  if (result != kNcclSuccess) {
    std::string list;
    for (const int ordinal : ordinals) list += (list.empty() ? "" : ", ") + std::to_string(ordinal);
    throw ConfigError("NCCL cannot connect GPUs " + list + ": " + nccl_.describe(result) +
                      "; NCCL_DEBUG=INFO says more");
  }
  handles_ = std::move(handles);
}

Communicators::~Communicators() {
  for (const CommunicatorHandle handle : handles_) nccl_.table().destroy(handle);
}

void Communicators::all_gather(std::span<float* const> buffers, std::size_t count,
                               std::span<const StreamHandle> streams) {
  if (handles_.empty()) throw FatalError(ExitCode::gpu_lost, "the connection between the GPUs has been given up");
  INFERD_CHECK(buffers.size() == handles_.size() && streams.size() == handles_.size());
  const NcclTable& api = nccl_.table();
  nccl_.check(api.group_start(), "gather what the GPUs computed");
  int failed = kNcclSuccess;
  for (std::size_t rank = 0; rank < handles_.size() && failed == kNcclSuccess; ++rank) {
    failed =
        api.all_gather(buffers[rank] + rank * count, buffers[rank], count, kNcclFloat32, handles_[rank], streams[rank]);
  }
  const int ended = api.group_end();
  nccl_.check(failed != kNcclSuccess ? failed : ended, "gather what the GPUs computed");
}

void Communicators::check_async() const {
  for (const CommunicatorHandle handle : handles_) {
    int result = kNcclSuccess;
    nccl_.check(nccl_.table().async_error(handle, &result), "say how the GPUs are");
    if (result != kNcclInProgress) nccl_.check(result, "finish what the GPUs exchange");
  }
}

void Communicators::abort() noexcept {
  for (const CommunicatorHandle handle : std::exchange(handles_, {})) nccl_.table().abort(handle);
}

}  // namespace inferd::cuda
