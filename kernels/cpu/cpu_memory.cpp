// Memory of the CPU backend, and how much of it there is.
#include "kernels/cpu/cpu_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <utility>

#include "base/errors.h"
#include "kernels/cpu/cgroup.h"

namespace inferd {
namespace {

constexpr std::size_t kMapFrom = std::size_t{256} << 10;
constexpr std::size_t kCheckFrom = std::size_t{16} << 20;  // below, asking how much is free costs more than it tells
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kUnknown = std::numeric_limits<std::size_t>::max();

[[noreturn]] void fail(std::size_t bytes) {
  const std::size_t available = available_memory();
  throw MemoryError("not enough memory: needed " + std::to_string(bytes) + " bytes" +
                    (available == kUnknown ? "" : ", available " + std::to_string(available)));
}

/// "MemAvailable:  24 kB" → 24576.
std::optional<std::size_t> machine_available(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string key;
  while (file >> key) {
    std::uint64_t kib = 0;
    if (key == "MemAvailable:" && file >> kib) return static_cast<std::size_t>(kib) * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

}  // namespace

CpuMemory::CpuMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  if (bytes > (kUnknown >> 2)) fail(bytes);
  if (bytes >= kCheckFrom && bytes > available_memory()) fail(bytes);
  if (bytes >= kMapFrom) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_bytes_ = (bytes + page - 1) / page * page;
    void* at = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) fail(bytes);
    madvise(at, mapped_bytes_, MADV_HUGEPAGE);  // advice: refused on some kernels, and nothing is lost
    data_ = static_cast<std::byte*>(at);
    return;
  }
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
  if (data_ == nullptr) fail(bytes);
  std::memset(data_, 0, rounded);
}

CpuMemory::~CpuMemory() {
  if (mapped_bytes_ > 0) {
    munmap(data_, mapped_bytes_);
  } else {
    std::free(data_);
  }
}

CpuMemory::CpuMemory(CpuMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

CpuMemory& CpuMemory::operator=(CpuMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  return *this;
}

std::size_t available_memory(const std::string& root) {
  std::size_t available = machine_available(root).value_or(kUnknown);
  if (const auto left = cgroup_memory_left(root)) available = std::min(available, *left);
  return available;
}

}  // namespace inferd
