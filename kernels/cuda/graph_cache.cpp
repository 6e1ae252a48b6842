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

void GraphCache::begin() const {
  const Context& context = stream_.context();
  context.check(context.api().capture_begin(stream_.handle(), kCaptureThreadLocal), "capture a step");
}

void GraphCache::abandon() const noexcept {
  const DriverTable& api = stream_.context().api();
  GraphHandle graph = nullptr;
  api.capture_end(stream_.handle(), &graph);
  if (graph != nullptr) api.graph_destroy(graph);
}

void GraphCache::end(std::uint64_t key) {
  const Context& context = stream_.context();
  const DriverTable& api = context.api();
  GraphHandle graph = nullptr;
  context.check(api.capture_end(stream_.handle(), &graph), "capture a step");
  GraphExecHandle executable = nullptr;
  const int status = api.graph_instantiate(&executable, graph, 0);
  api.graph_destroy(graph);
  context.check(status, "keep a captured step");
  graphs_.emplace(key, executable);
}

void GraphCache::replay(std::uint64_t key) {
  const Context& context = stream_.context();
  context.check(context.api().graph_launch(graphs_.at(key), stream_.handle()), "replay a step");
}

void GraphCache::run(std::uint64_t key, const std::function<void()>& work) {
  if (!holds(key)) {
    begin();
    try {
      work();
    } catch (...) {
      abandon();
      throw;
    }
    end(key);
  }
  replay(key);
}

}  // namespace inferd::cuda
