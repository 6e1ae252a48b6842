// ThreadPool: the persistent workers of the CPU backend.
#pragma once

#include <cstdint>
#include <memory>

namespace inferd {

/// A borrowed callable; valid only during the call it is passed to.
class TaskRef {
 public:
  template <typename F>
  TaskRef(const F& function)  // NOLINT: implicit on purpose, like std::function
      : object_(&function), call_([](const void* object, std::int64_t task, int worker) {
          (*static_cast<const F*>(object))(task, worker);
        }) {}
  void operator()(std::int64_t task, int worker) const { call_(object_, task, worker); }

 private:
  const void* object_;
  void (*call_)(const void*, std::int64_t, int);
};

/// Fixed threads; workers spin briefly, then park, so an idle pool uses no CPU. One caller at a time. Never allocates
/// in run.
class ThreadPool {
 public:
  /// threads ≥ 1, the calling thread included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  int size() const;
  /// Calls task(0 … tasks-1, worker) once each, on all workers, and returns when all are done. worker ∈ [0, size()).
  /// Neighbouring tasks run on one worker, in order, as long as nobody lags behind: memory they read in turn is one
  /// stream.
  void run(std::int64_t tasks, TaskRef task);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Physical cores ∩ affinity ∩ cgroup CPU quota, at least 1.
int default_thread_count();

}  // namespace inferd
