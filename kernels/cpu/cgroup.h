// What the control groups of this process allow it, versions 1 and 2.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace inferd {

/// CPUs' worth of time per period, the least on the way to the root; absent if unlimited. `root` as in
/// available_memory.
std::optional<double> cgroup_cpu_quota(const std::string& root = "");

/// Bytes until the memory limit, page cache that can be dropped counted as free; absent if unlimited.
std::optional<std::size_t> cgroup_memory_left(const std::string& root = "");

}  // namespace inferd
