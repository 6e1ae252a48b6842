// The workers of the CPU backend: each has a stretch of the tasks and takes from the ends of others when it is through.
#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#include <vector>

#include "base/check.h"

namespace inferd {
namespace {

/// How long a worker looks for work before it parks, and how often it reads the clock meanwhile.
constexpr std::chrono::microseconds kSpin{100};
constexpr int kSpinsPerClock = 64;
/// Turns of the caller's wait before it offers its core to whoever needs it.
constexpr int kTurnsBeforeYield = 2000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

/// Tasks [first, end) that nobody has taken yet, in one word: the owner takes the first, others the last.
struct alignas(64) Stretch {
  std::atomic<std::uint64_t> word{0};

  static std::uint32_t first_of(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }
  static std::uint32_t end_of(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
  static std::uint64_t pack(std::uint32_t first, std::uint32_t end) {
    return (static_cast<std::uint64_t>(first) << 32) | end;
  }

  void set(std::int64_t first, std::int64_t end) {
    word.store(pack(static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(end)), std::memory_order_release);
  }
  /// A task, or -1 if none is left. A word that comes back in a later run is no danger: whoever swaps it then holds a
  /// task of that run.
  std::int64_t take(bool own) {
    std::uint64_t seen = word.load(std::memory_order_acquire);
    for (;;) {
      const std::uint32_t first = first_of(seen), end = end_of(seen);
      if (first >= end) return -1;
      const std::uint64_t rest = own ? pack(first + 1, end) : pack(first, end - 1);
      if (word.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return own ? first : end - 1;
      }
    }
  }
};

}  // namespace

struct ThreadPool::Impl {
  // A worker reads `task` only while it holds a task that is not counted as finished, so a worker that wakes late never
  // delays or disturbs anyone.
  alignas(64) std::atomic<std::int64_t> finished{0};
  alignas(64) std::atomic<std::uint32_t> round{0};  // what parked workers wait on
  std::atomic<int> parked{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> running{false};
  const TaskRef* task = nullptr;
  std::vector<Stretch> stretches;  // one a worker
  std::vector<std::thread> threads;

  explicit Impl(int workers) : stretches(static_cast<std::size_t>(workers)) {}

  ~Impl() {
    stop.store(true, std::memory_order_seq_cst);
    round.fetch_add(1, std::memory_order_seq_cst);
    round.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  /// Takes and runs tasks until none is left.
  void work(int worker) {
    const auto workers = static_cast<int>(stretches.size());
    std::int64_t done = 0;
    for (int i = 0; i < workers; ++i) {
      Stretch& stretch = stretches[static_cast<std::size_t>((worker + i) % workers)];
      for (std::int64_t index = stretch.take(i == 0); index >= 0; index = stretch.take(i == 0)) {
        (*task)(index, worker);
        ++done;
      }
    }
    if (done > 0) finished.fetch_add(done, std::memory_order_acq_rel);
  }

  /// Returns when the round is no longer `last`, having parked if that takes long.
  void await_round(std::uint32_t last) {
    auto deadline = std::chrono::steady_clock::now() + kSpin;
    for (int spins = 1;; ++spins) {
      if (round.load(std::memory_order_acquire) != last || stop.load(std::memory_order_relaxed)) return;
      relax();
      if (spins % kSpinsPerClock == 0 && std::chrono::steady_clock::now() >= deadline) break;
    }
    parked.fetch_add(1, std::memory_order_seq_cst);
    while (round.load(std::memory_order_seq_cst) == last && !stop.load(std::memory_order_relaxed)) {
      round.wait(last, std::memory_order_seq_cst);
    }
    parked.fetch_sub(1, std::memory_order_seq_cst);
  }

  void worker_loop(int worker) {
    std::uint32_t last = 0;
    for (;;) {
      await_round(last);
      if (stop.load(std::memory_order_acquire)) return;
      last = round.load(std::memory_order_acquire);
      work(worker);
    }
  }

  void wake() {
    if (parked.load(std::memory_order_seq_cst) > 0) round.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>(std::max(threads, 1))) {
  INFERD_CHECK(threads >= 1);
  impl_->threads.reserve(static_cast<std::size_t>(threads - 1));
  for (int worker = 1; worker < threads; ++worker) {
    impl_->threads.emplace_back([impl = impl_.get(), worker] { impl->worker_loop(worker); });
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(impl_->threads.size()) + 1; }

void ThreadPool::run(std::int64_t tasks, TaskRef task) {
  INFERD_CHECK(tasks >= 0 && tasks <= std::numeric_limits<std::int32_t>::max());
  Impl& pool = *impl_;
  INFERD_CHECK(!pool.running.exchange(true, std::memory_order_acquire));  // one caller at a time, never from a task
  if (tasks == 1 || pool.threads.empty()) {
    for (std::int64_t i = 0; i < tasks; ++i) task(i, 0);
  } else if (tasks > 0) {
    pool.task = &task;
    pool.finished.store(0, std::memory_order_relaxed);
    const std::int64_t workers = size();
    for (std::int64_t w = 0; w < workers; ++w) {
      pool.stretches[static_cast<std::size_t>(w)].set(tasks * w / workers, tasks * (w + 1) / workers);
    }
    pool.round.fetch_add(1, std::memory_order_seq_cst);
    pool.wake();
    pool.work(0);
    for (int turns = 0; pool.finished.load(std::memory_order_acquire) != tasks; ++turns) {
      if (turns < kTurnsBeforeYield) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
  }
  pool.running.store(false, std::memory_order_release);
}

}  // namespace inferd
