// The workers of the CPU backend: one atomic word hands out tasks, another counts the finished ones.
#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#include <vector>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace inferd {
namespace {

/// How long a worker looks for work before it parks, and how often it reads the clock meanwhile.
constexpr std::chrono::microseconds kSpin{100};
constexpr int kSpinsPerClock = 64;
/// Turns of the caller's wait before it offers its core to whoever needs it.
constexpr int kTurnsBeforeYield = 2000;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

constexpr std::uint64_t kRemainingMask = 0xffffffffu;
std::uint32_t round_of(std::uint64_t ticket) { return static_cast<std::uint32_t>(ticket >> 32); }

}  // namespace

struct ThreadPool::Impl {
  // Upper half: number of the run; lower half: tasks nobody has taken yet. A worker touches `task` and `total` only
  // while it holds a task of the current run, so a worker that wakes late never delays or disturbs anyone.
  alignas(64) std::atomic<std::uint64_t> ticket{0};
  alignas(64) std::atomic<std::int64_t> finished{0};
  alignas(64) std::atomic<std::uint32_t> round{0};  // what parked workers wait on
  std::atomic<int> parked{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> running{false};
  const TaskRef* task = nullptr;
  std::int64_t total = 0;
  std::vector<std::thread> threads;

  ~Impl() {
    stop.store(true, std::memory_order_seq_cst);
    round.fetch_add(1, std::memory_order_seq_cst);
    round.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  /// Takes and runs tasks until none is left.
  void work(int worker) {
    std::uint64_t seen = ticket.load(std::memory_order_acquire);
    while ((seen & kRemainingMask) != 0) {
      if (!ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        relax();
        continue;
      }
      const std::int64_t index = total - static_cast<std::int64_t>(seen & kRemainingMask);
      (*task)(index, worker);
      finished.fetch_add(1, std::memory_order_acq_rel);
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  /// Returns when the round is no longer `last`, having parked if that takes long.
  void await_round(std::uint32_t last) {
    auto deadline = std::chrono::steady_clock::now() + kSpin;
    for (int spins = 1;; ++spins) {
      if (round_of(ticket.load(std::memory_order_acquire)) != last || stop.load(std::memory_order_relaxed)) return;
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
      last = round_of(ticket.load(std::memory_order_acquire));
      work(worker);
    }
  }

  void wake() {
    if (parked.load(std::memory_order_seq_cst) > 0) round.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
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
    pool.total = tasks;
    pool.finished.store(0, std::memory_order_relaxed);
    std::uint32_t round = round_of(pool.ticket.load(std::memory_order_relaxed)) + 1;
    pool.round.store(round, std::memory_order_seq_cst);
    pool.ticket.store((static_cast<std::uint64_t>(round) << 32) | static_cast<std::uint64_t>(tasks),
                      std::memory_order_seq_cst);
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
