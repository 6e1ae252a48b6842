// WorkerPool: one thread a connection, made at start, with small stacks.
#include "server/worker_pool.h"

#include <cstring>
#include <string>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

// Deep enough for a JSON document of depth 64 and a chat template's nesting; only touched pages take memory.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kStackBytes = 4u << 20;
#else
constexpr std::size_t kStackBytes = 512u << 10;
#endif

}  // namespace

WorkerPool::WorkerPool(int threads) : size_(threads) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  threads_.reserve(static_cast<std::size_t>(threads));
  int failed = 0;
  for (int i = 0; i < threads && failed == 0; ++i) {
    pthread_t thread;
    failed = pthread_create(&thread, &attributes, &WorkerPool::thread_main, this);
    if (failed == 0) threads_.push_back(thread);
  }
  pthread_attr_destroy(&attributes);
  if (failed != 0) {
    const std::string made = std::to_string(threads_.size());
    join();
    throw MemoryError("max_connections: expected " + std::to_string(size_) + " threads, the system gave " + made +
                      " (" + std::strerror(failed) + "); lower max_connections or raise the service's TasksMax");
  }
}

WorkerPool::~WorkerPool() { join(); }

bool WorkerPool::try_run(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || claimed_ >= size_) return false;
    ++claimed_;
    jobs_.push_back(std::move(job));
  }
  changed_.notify_one();
  return true;
}

int WorkerPool::busy() const {
  const std::lock_guard lock(mutex_);
  return claimed_;
}

void WorkerPool::join() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  threads_.clear();
}

void* WorkerPool::thread_main(void* pool) {
  static_cast<WorkerPool*>(pool)->work();
  return nullptr;
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    try {
      job();
    } catch (const std::exception& error) {
      spdlog::error("connection thread: {}", log_safe(error.what()));
    }
    job = nullptr;
    lock.lock();
    --claimed_;
  }
}

}  // namespace inferd
