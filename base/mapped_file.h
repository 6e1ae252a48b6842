// A read-only memory-mapped file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace inferd {

/// Owns one read-only mapping of a regular file; unmapped on destruction. Immutable, thread-safe.
class MappedFile {
 public:
  /// Maps `path`. Throws CheckpointError if it is missing, not a regular file or unreadable.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  /// Maps `relative`, below the folder `root`. Throws likewise, and where any part of the way, symbolic links included,
  /// leads out of `root`. Messages name `relative` only.
  static std::shared_ptr<const MappedFile> open_beneath(const std::filesystem::path& root, const std::string& relative);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Tells the kernel that these bytes of the mapping are not needed soon (drops clean pages).
  void release_pages(const std::byte* begin, std::size_t size) const;

 private:
  static std::shared_ptr<const MappedFile> map(int fd, const std::string& name);
  MappedFile(std::string path, const std::byte* data, std::size_t size);
  std::string path_;
  const std::byte* data_;
  std::size_t size_;
};

}  // namespace inferd
