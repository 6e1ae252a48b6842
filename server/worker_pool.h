// WorkerPool: one thread a connection, made at start, with small stacks.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

namespace inferd {

/// A fixed number of threads; work is never queued behind a busy one. Thread-safe.
class WorkerPool {
 public:
  /// Throws MemoryError if the system refuses that many threads.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;

  /// Runs `job` on a free thread; false if all are busy.
  bool try_run(std::function<void()> job);
  int busy() const;
  /// Joins all threads once their jobs have ended.
  void join();

 private:
  static void* thread_main(void* pool);
  void work();

  const int size_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  int claimed_ = 0;  // jobs running or about to be taken by a free thread
  bool stopping_ = false;
  std::vector<pthread_t> threads_;
};

}  // namespace inferd
