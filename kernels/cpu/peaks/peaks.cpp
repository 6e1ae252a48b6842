// Timing of the loops of peaks.h.
#include "kernels/cpu/peaks.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/peaks/peak_loops.h"
#include "kernels/cpu/thread_pool.h"

namespace inferd {

namespace portable {
extern const PeakLoops kPeakLoops;
}
#if INFERD_CPU_LEVEL_COUNT > 1
namespace avx2 {
extern const PeakLoops kPeakLoops;
}
namespace avxvnni {
extern const PeakLoops kPeakLoops;
}
namespace avx512vnni {
extern const PeakLoops kPeakLoops;
extern const PeakLoops kAmxPeakLoops;
}  // namespace avx512vnni
#endif

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kDuration{250};
constexpr std::size_t kReadBytes = std::size_t{256}
                                   << 20;  // several times a large last-level cache's share of a thread
constexpr std::size_t kReadStep = 1024;
constexpr std::int64_t kRounds = 400'000;

const PeakLoops& peak_loops(CpuLevel level) {
#if INFERD_CPU_LEVEL_COUNT > 1
  switch (level) {
    case CpuLevel::portable:
      break;
    case CpuLevel::avx2:
      return avx2::kPeakLoops;
    case CpuLevel::avxvnni:
      return avxvnni::kPeakLoops;
    case CpuLevel::avx512vnni:
      return avx512vnni::kPeakLoops;
    case CpuLevel::amx:
      return avx512vnni::kAmxPeakLoops;
  }
#else
  INFERD_CHECK(level == CpuLevel::portable);
#endif
  return portable::kPeakLoops;
}

/// The most work per second of passes of `work` each, one task a thread.
template <typename Task>
double best_rate(int threads, double work, const Task& task) {
  ThreadPool pool(threads);
  double best = 0.0;
  const Clock::time_point deadline = Clock::now() + kDuration;
  do {
    const Clock::time_point begin = Clock::now();
    pool.run(threads, task);
    const std::chrono::duration<double> taken = Clock::now() - begin;
    best = std::max(best, work / std::max(taken.count(), 1e-9));
  } while (Clock::now() < deadline);
  return best;
}

}  // namespace

double measure_read_bandwidth(int threads) {
  INFERD_CHECK(threads >= 1);
  const PeakLoops& loops = peak_loops(best_cpu_level());
  const std::size_t spare = available_memory() / 4;
  const std::size_t part =
      std::max(std::min(kReadBytes, spare) / static_cast<std::size_t>(threads), kReadStep) / kReadStep * kReadStep;
  CpuMemory memory(part * static_cast<std::size_t>(threads));
  std::memset(memory.data(), 1, memory.bytes());  // or all pages are the one of zeros
  std::atomic<std::uint64_t> sink{0};
  return best_rate(threads, static_cast<double>(memory.bytes()), [&](std::int64_t task, int) {
    sink += loops.read(memory.data() + static_cast<std::size_t>(task) * part, part);
  });
}

double measure_int8_ops(CpuLevel level, int threads) {
  INFERD_CHECK(threads >= 1);
  if (!cpu_level_available(level)) return 0.0;
  const PeakLoops& loops = peak_loops(level);
  alignas(64) std::array<std::int8_t, 64> seed;
  seed.fill(1);
  std::atomic<std::int32_t> sink{0};
  const double work = static_cast<double>(threads) * static_cast<double>(loops.int8_ops_per_round) * kRounds;
  return best_rate(threads, work, [&](std::int64_t, int) { sink += loops.int8(seed.data(), kRounds); });
}

double measure_f32_flops(CpuLevel level, int threads) {
  INFERD_CHECK(threads >= 1);
  if (!cpu_level_available(level)) return 0.0;
  const PeakLoops& loops = peak_loops(level);
  alignas(64) std::array<float, 16> seed;
  seed.fill(0.5f);
  std::atomic<int> sink{0};
  const double work = static_cast<double>(threads) * static_cast<double>(loops.f32_ops_per_round) * kRounds;
  return best_rate(threads, work,
                   [&](std::int64_t, int) { sink += static_cast<int>(loops.f32(seed.data(), kRounds)); });
}

}  // namespace inferd
