// What this machine's processors offer: instruction levels and cores.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace inferd {

/// All, from the least.
inline constexpr std::array kCpuLevels = {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avxvnni, CpuLevel::avx512vnni,
                                          CpuLevel::amx};

/// "avx2" and so on.
std::string_view cpu_level_name(CpuLevel level);

/// Whether this build contains the level and processor and operating system can run it.
bool cpu_level_available(CpuLevel level);

/// The level for an `isa` option ("auto" asks INFERD_ISA first). Throws ConfigError naming the levels.
CpuLevel choose_cpu_level(const std::string& isa);

/// Physical cores among `cpus` as <root>/sys describes them, within the cgroup's quota rounded down; at least 1.
int thread_count_under(const std::string& root, const std::vector<int>& cpus);

}  // namespace inferd
