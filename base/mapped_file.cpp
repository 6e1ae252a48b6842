// Read-only file mappings through mmap.
#include "base/mapped_file.h"

#include <cerrno>
#include <cstdint>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

/// Closes a file descriptor on scope exit; the mapping outlives it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const std::string& path, const char* what, int error) {
  throw CheckpointError(log_safe(path) + ": " + what + ": " + std::generic_category().message(error));
}

}  // namespace

MappedFile::MappedFile(std::string path, const std::byte* data, std::size_t size)
    : path_(std::move(path)), data_(data), size_(size) {}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const std::string name = path.string();
  // O_NONBLOCK: opening a FIFO must be refused below, not waited for.
  const Descriptor file(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail(name, "cannot open", errno);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail(name, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) throw CheckpointError(log_safe(name) + ": expected a regular file");
  const auto size = static_cast<std::size_t>(info.st_size);
  const std::byte* data = nullptr;
  if (size > 0) {
    void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
    if (mapping == MAP_FAILED) fail(name, "cannot map", errno);
    data = static_cast<const std::byte*>(mapping);
  }
  try {
    return std::shared_ptr<const MappedFile>(new MappedFile(name, data, size));
  } catch (...) {
    if (data != nullptr) ::munmap(const_cast<std::byte*>(data), size);
    throw;
  }
}

void MappedFile::release_pages(const std::byte* begin, std::size_t size) const {
  if (size == 0 || begin < data_ || begin > data_ + size_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  // The mapping starts on a page, so offsets within it round like addresses. Pages shared with neighbours stay.
  const auto offset = static_cast<std::size_t>(begin - data_);
  const std::size_t end = size > size_ - offset ? size_ : offset + size;
  const std::size_t first = (offset + page - 1) / page * page;
  const std::size_t last = end == size_ ? end : end / page * page;
  if (first >= last) return;
  ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

}  // namespace inferd
