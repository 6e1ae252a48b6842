// Capturing and replaying graphs.
#include "kernels/cuda/graph_cache.h"

namespace inferd::cuda {
namespace {

constexpr int kCaptureThreadLocal = 1;  // CUstreamCaptureMode

}  // namespace

GraphCache::~GraphCache() {
  if (stream_.context().try_enter()) forget();
}

void GraphCache::forget() {
  for (const auto& [key, graph] : graphs_) stream_.context().api().graph_exec_destroy(graph);
  graphs_.clear();
}

GraphExecHandle GraphCache::record(const std::function<void()>& work) const {
  const Context& context = stream_.context();
  const DriverTable& api = context.api();
  GraphHandle graph = nullptr;
  context.check(api.capture_begin(stream_.handle(), kCaptureThreadLocal), "capture a step");
  try {
    work();
  } catch (...) {
    api.capture_end(stream_.handle(), &graph);
    if (graph != nullptr) api.graph_destroy(graph);
    throw;
  }
  context.check(api.capture_end(stream_.handle(), &graph), "capture a step");
  GraphExecHandle executable = nullptr;
  const int status = api.graph_instantiate(&executable, graph, 0);
  api.graph_destroy(graph);
  context.check(status, "keep a captured step");
  return executable;
}

void GraphCache::run(std::uint64_t key, const std::function<void()>& work) {
  const Context& context = stream_.context();
  auto found = graphs_.find(key);
  if (found == graphs_.end()) found = graphs_.emplace(key, record(work)).first;
  context.check(context.api().graph_launch(found->second, stream_.handle()), "replay a step");
}

}  // namespace inferd::cuda
