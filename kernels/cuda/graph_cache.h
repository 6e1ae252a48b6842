// GraphCache: work that was queued once, kept as CUDA graphs to be queued again by one call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "kernels/cuda/cuda_memory.h"

namespace inferd::cuda {

/// Graphs of one stream by key. One thread at a time, which has entered the context.
class GraphCache {
 public:
  explicit GraphCache(const Stream& stream) : stream_(stream) {}
  ~GraphCache();
  GraphCache(const GraphCache&) = delete;

  /// Queues what `work` launches on the stream: by calling it, while it is recorded, or by replaying the record of an
  /// earlier call with this key. Throws what `work` throws.
  void run(std::uint64_t key, const std::function<void()>& work);
  void forget();

  // The steps of `run`, for work that is recorded on several streams at once.
  bool holds(std::uint64_t key) const { return graphs_.contains(key); }
  void begin() const;              // what is queued from here on is recorded, not done
  void abandon() const noexcept;   // ... and thrown away
  void end(std::uint64_t key);     // ... and kept
  void replay(std::uint64_t key);  // queues what is kept

 private:
  const Stream& stream_;
  std::map<std::uint64_t, GraphExecHandle> graphs_;
};

}  // namespace inferd::cuda
