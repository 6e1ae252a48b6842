// Instruction levels by CPUID and XGETBV; cores by affinity, sysfs and cgroup quota.
#include "kernels/cpu/cpu_topology.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <set>

#include "base/errors.h"
#include "kernels/cpu/cgroup.h"
#include "kernels/cpu/thread_pool.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace inferd {
namespace {

#if defined(__x86_64__)

bool bit(std::uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

/// XCR0: which registers the operating system saves.
std::uint64_t saved_state() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

struct Features {
  bool avx2 = false;  // AVX2, FMA, F16C, BMI2 and saved ymm registers
  bool avxvnni = false;
  bool avx512 = false;  // F, BW, DQ, VL, VNNI and saved zmm registers
  bool amx = false;     // those, AMX-TILE, AMX-INT8 and saved tiles
};

Features read_features() {
  Features features;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return features;
  const bool fma = bit(c, 12);
  const bool f16c = bit(c, 29);
  const bool os_saves = bit(c, 27);
  if (!fma || !f16c || !os_saves) return features;
  const std::uint64_t state = saved_state();
  constexpr std::uint64_t kYmm = 0x6;
  constexpr std::uint64_t kZmm = 0xe6;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return features;
  const std::uint32_t subleaves = a;
  features.avx2 = (state & kYmm) == kYmm && bit(b, 5) && bit(b, 8);
  features.avx512 =
      features.avx2 && (state & kZmm) == kZmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31) && bit(c, 11);
  constexpr std::uint64_t kTiles = 0x60000;
  features.amx = features.avx512 && (state & kTiles) == kTiles && bit(d, 24) && bit(d, 25);
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) features.avxvnni = features.avx2 && bit(a, 4);
  return features;
}

/// Asks Linux for the tile registers, which it gives a process, with all its threads, on demand only ("Using XSTATE
/// features in user space applications" in the kernel's documentation).
bool allow_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#endif

std::string available_names() {
  std::string names;
  for (CpuLevel level : kCpuLevels) {
    if (cpu_level_available(level)) names += (names.empty() ? "" : ", ") + std::string(cpu_level_name(level));
  }
  return names;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::string_view cpu_level_name(CpuLevel level) {
  switch (level) {
    case CpuLevel::portable:
      return "portable";
    case CpuLevel::avx2:
      return "avx2";
    case CpuLevel::avxvnni:
      return "avxvnni";
    case CpuLevel::avx512vnni:
      return "avx512vnni";
    case CpuLevel::amx:
      return "amx";
  }
  return "unknown";
}

bool cpu_level_available(CpuLevel level) {
  if (level == CpuLevel::portable) return true;
#if defined(__x86_64__)
  const Features features = read_features();
  if (level == CpuLevel::avx2) return features.avx2;
  if (level == CpuLevel::avxvnni) return features.avxvnni;
  if (level == CpuLevel::avx512vnni) return features.avx512;
  static const bool tiles_allowed = features.amx && allow_tiles();
  return tiles_allowed;
#else
  return false;
#endif
}

CpuLevel best_cpu_level() {
  CpuLevel best = CpuLevel::portable;
  for (CpuLevel level : kCpuLevels) {
    if (cpu_level_available(level)) best = level;
  }
  return best;
}

CpuLevel choose_cpu_level(const std::string& isa) {
  std::string wanted = isa;
  std::string source = "isa";
  if (wanted == "auto") {
    if (const char* forced = std::getenv("INFERD_ISA"); forced != nullptr && *forced != '\0') {
      wanted = forced;
      source = "INFERD_ISA";
    }
  }
  if (wanted == "auto") return best_cpu_level();
  for (CpuLevel level : kCpuLevels) {
    if (wanted != cpu_level_name(level)) continue;
    if (cpu_level_available(level)) return level;
    throw ConfigError(source + ": this machine cannot run " + wanted + "; it can run " + available_names());
  }
  throw ConfigError(source + ": expected auto, portable, avx2, avxvnni, avx512vnni or amx, found \"" + wanted + "\"");
}

int thread_count_under(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string number = std::to_string(cpu);
    const std::string siblings =
        first_line(root + "/sys/devices/system/cpu/cpu" + number + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + number : siblings);
  }
  int count = std::max(1, static_cast<int>(cores.size()));
  if (const auto quota = cgroup_cpu_quota(root)) {
    count = std::min(count, std::max(1, static_cast<int>(std::floor(std::min(*quota, 1e6)))));
  }
  return count;
}

int default_thread_count() {
  // An affinity mask can have more CPUs than cpu_set_t; the call then fails with EINVAL until the set is large enough.
  std::vector<int> cpus;
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 4) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    const bool done = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; done && cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (done) break;
  }
  return thread_count_under("", cpus);
}

}  // namespace inferd
