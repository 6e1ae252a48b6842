// CpuMemory: zero-filled, aligned memory of the CPU backend.
#pragma once

#include <cstddef>
#include <string>

namespace inferd {

/// Owns `bytes` zero-filled bytes at a 64-byte aligned address. Large pieces are mapped, so pages that nobody touches
/// take no memory, and may be backed by huge pages.
class CpuMemory {
 public:
  CpuMemory() = default;
  /// Throws MemoryError, naming needed and available bytes.
  explicit CpuMemory(std::size_t bytes);
  ~CpuMemory();
  CpuMemory(CpuMemory&& other) noexcept;
  CpuMemory& operator=(CpuMemory&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t mapped_bytes_ = 0;  // 0: from aligned_alloc
};

/// Bytes this process could still take: what the machine has free, within its cgroup's limit. `root` is the file
/// system's root (another one in tests). SIZE_MAX if unknown.
std::size_t available_memory(const std::string& root = "");

}  // namespace inferd
