// Read-only file mappings through mmap.
#include "base/mapped_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
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
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// O_NONBLOCK: opening a FIFO must be refused afterwards, not waited for.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

/// The kernel resolves the path and keeps it below the folder. -1 with ENOSYS where it is too old (before 5.6) or the
/// call is filtered.
int open_below(int folder, const std::string& relative) {
  struct open_how how {};
  how.flags = kOpenFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, folder, relative.c_str(), &how, sizeof how);
  if (fd < 0 && errno == EPERM) errno = ENOSYS;  // how seccomp filters mostly say it
  return static_cast<int>(fd);
}

/// The same part by part, without following any symbolic link.
int walk_below(int folder, const std::string& relative) {
  Descriptor at(::dup(folder));
  for (std::size_t begin = 0; begin <= relative.size();) {
    const std::size_t end = std::min(relative.find('/', begin), relative.size());
    const std::string part = relative.substr(begin, end - begin);
    const bool last = end == relative.size();
    if (part == ".." || (begin == 0 && part.empty())) {
      errno = EXDEV;
      return -1;
    }
    begin = end + 1;
    if (part.empty() || part == ".") continue;
    const int flags = last ? kOpenFlags | O_NOFOLLOW : O_PATH | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW;
    const int next = ::openat(at.get(), part.c_str(), flags);
    if (next < 0 || last) return next;
    at = Descriptor(next);
  }
  errno = EINVAL;
  return -1;
}

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
  const Descriptor file(::open(name.c_str(), kOpenFlags));
  if (file.get() < 0) fail(name, "cannot open", errno);
  return map(file.get(), name);
}

std::shared_ptr<const MappedFile> MappedFile::open_beneath(const std::filesystem::path& root,
                                                           const std::string& relative) {
  const Descriptor folder(::open(root.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY));
  if (folder.get() < 0) fail(relative, "cannot open the folder it is to be in", errno);
  if (relative.empty() || relative.find('\0') != std::string::npos) fail(relative, "cannot open", EINVAL);
  Descriptor file(open_below(folder.get(), relative));
  if (file.get() < 0 && errno == ENOSYS) file = Descriptor(walk_below(folder.get(), relative));
  if (file.get() < 0) fail(relative, "cannot open", errno);
  return map(file.get(), relative);
}

std::shared_ptr<const MappedFile> MappedFile::map(int fd, const std::string& name) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail(name, "cannot stat", errno);
  if (!S_ISREG(info.st_mode)) throw CheckpointError(log_safe(name) + ": expected a regular file");
  const auto size = static_cast<std::size_t>(info.st_size);
  const std::byte* data = nullptr;
  if (size > 0) {
    void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
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
