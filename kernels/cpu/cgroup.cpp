// Reads /proc/self/cgroup and the files of its groups. Unreadable or malformed files count as "no limit".
#include "kernels/cpu/cgroup.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

namespace inferd {
namespace {

/// Folders of the groups of one controller, innermost first. "" is the unified hierarchy of version 2.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool match =
        controller.empty() ? controllers == ",," : controllers.find("," + controller + ",") != std::string::npos;
    if (!match) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
    std::string path = line.substr(second + 1);
    std::vector<std::string> folders;
    while (!path.empty() && path != "/") {
      folders.push_back(mount + path);
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
    folders.push_back(mount);
    return folders;
  }
  return {};
}

std::optional<std::int64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// A "key value" line of memory.stat.
std::int64_t stat_value(const std::string& path, const std::string& wanted) {
  std::ifstream file(path);
  std::string key;
  std::int64_t value = 0;
  while (file >> key >> value) {
    if (key == wanted) return value;
  }
  return 0;
}

void keep_least(std::optional<double>& least, double value) { least = least ? std::min(*least, value) : value; }

void memory_left(const std::string& folder, const char* limit_file, const char* usage_file, const char* cache_key,
                 std::optional<std::size_t>& least) {
  const auto limit = read_number(folder + limit_file);  // "max" is no number
  const auto usage = read_number(folder + usage_file);
  constexpr std::int64_t kUnlimited = std::int64_t{1} << 60;  // version 1 writes a huge number for "none"
  if (!limit || !usage || *limit >= kUnlimited) return;
  const std::int64_t cache = stat_value(folder + "/memory.stat", cache_key);
  const auto left =
      static_cast<std::size_t>(std::max<std::int64_t>(0, *limit - *usage + std::max<std::int64_t>(0, cache)));
  least = least ? std::min(*least, left) : left;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& root) {
  std::optional<double> least;
  for (const std::string& folder : group_folders(root, "")) {
    std::ifstream file(folder + "/cpu.max");
    double quota = 0;
    double period = 0;
    if (file >> quota >> period && quota > 0 && period > 0) keep_least(least, quota / period);
  }
  for (const std::string& folder : group_folders(root, "cpu")) {
    const auto quota = read_number(folder + "/cpu.cfs_quota_us");
    const auto period = read_number(folder + "/cpu.cfs_period_us");
    if (quota && period && *quota > 0 && *period > 0) {
      keep_least(least, static_cast<double>(*quota) / static_cast<double>(*period));
    }
  }
  return least;
}

std::optional<std::size_t> cgroup_memory_left(const std::string& root) {
  std::optional<std::size_t> least;
  for (const std::string& folder : group_folders(root, "")) {
    memory_left(folder, "/memory.max", "/memory.current", "inactive_file", least);
  }
  for (const std::string& folder : group_folders(root, "memory")) {
    memory_left(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file", least);
  }
  return least;
}

}  // namespace inferd
