// Reading and writing the cache of quantised weights.
#include "engine/quantize/quantized_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::string_view kTemporary = ".writing-";

struct Header {
  char magic[4] = {'I', 'F', 'Q', 'W'};
  std::uint32_t version = kVersion;
  std::uint64_t payload_bytes = 0;
  Digest key{};
  Digest digest{};
  char zeros[kQuantizedHeaderBytes - 80] = {};
};
static_assert(sizeof(Header) == kQuantizedHeaderBytes);

[[noreturn]] void fail(const std::string& what, const std::filesystem::path& path) {
  throw CacheWriteError(log_safe(path.string()) + ": " + what + ": " + std::generic_category().message(errno));
}

/// A descriptor that is closed at the end.
struct OpenFile {
  explicit OpenFile(int file) : fd(file) {}
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
  OpenFile(const OpenFile&) = delete;
  int fd;
};

void write_all(int fd, const void* data, std::size_t bytes, const std::filesystem::path& path) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(fd, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("cannot write", path);
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

Digest payload_digest(const MappedFile& file, ThreadPool& pool) {
  return digest_of("payload", {file.bytes().subspan(kQuantizedHeaderBytes)}, pool);
}

/// Fills an empty file. `path` names it, for reading back and in messages.
void fill(int fd, const std::filesystem::path& path, const Digest& key, const PayloadMaker& make, ThreadPool& pool) {
  Header header;
  header.key = key;
  write_all(fd, &header, sizeof header, path);  // with the digest of nothing: not valid before the end
  make([&](const std::byte* data, std::size_t bytes) {
    write_all(fd, data, bytes, path);
    header.payload_bytes += bytes;
  });
  header.digest = payload_digest(*MappedFile::open(path), pool);
  if (::lseek(fd, 0, SEEK_SET) != 0) fail("cannot seek", path);
  write_all(fd, &header, sizeof header, path);
}

/// Files of writers that died. A writer at work holds a lock on its own.
void remove_abandoned(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (!entry.path().filename().string().starts_with(kTemporary)) continue;
    const OpenFile file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file.fd >= 0 && ::flock(file.fd, LOCK_EX | LOCK_NB) == 0) std::filesystem::remove(entry.path(), error);
  }
}

}  // namespace

std::shared_ptr<const MappedFile> open_quantized_file(const std::filesystem::path& path, const Digest& key,
                                                      std::size_t payload_bytes, ThreadPool& pool,
                                                      std::string* problem) {
  problem->clear();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return nullptr;
  std::shared_ptr<const MappedFile> file;
  try {
    file = MappedFile::open(path);
  } catch (const CheckpointError& unreadable) {
    *problem = unreadable.what();
    return nullptr;
  }
  Header header, expected;
  if (file->bytes().size() == kQuantizedHeaderBytes + payload_bytes) {
    std::memcpy(&header, file->bytes().data(), sizeof header);
    expected.payload_bytes = payload_bytes;
    expected.key = key;
    expected.digest = header.digest;
    if (std::memcmp(&header, &expected, sizeof header) != 0) {
      *problem = "it is of another version or model";
    } else if (payload_digest(*file, pool) != header.digest) {
      *problem = "its checksum does not fit its contents";
    }
  } else {
    *problem = "it has " + std::to_string(file->bytes().size()) + " bytes, not " +
               std::to_string(kQuantizedHeaderBytes + payload_bytes);
  }
  return problem->empty() ? file : nullptr;
}

void write_quantized_file(const std::filesystem::path& path, const Digest& key, const PayloadMaker& make,
                          ThreadPool& pool) {
  const std::filesystem::path folder = path.parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  remove_abandoned(folder);
  std::string name = (folder / (std::string(kTemporary) + "XXXXXX")).string();
  const OpenFile file(::mkostemp(name.data(), O_CLOEXEC));
  if (file.fd < 0) fail("cannot create", folder);
  try {
    if (::flock(file.fd, LOCK_EX) != 0) fail("cannot lock", name);
    fill(file.fd, name, key, make, pool);
    if (::fsync(file.fd) != 0) fail("cannot flush", name);
    if (::rename(name.c_str(), path.c_str()) != 0) fail("cannot rename", name);
  } catch (...) {
    std::filesystem::remove(name, error);
    throw;
  }
}

std::shared_ptr<const MappedFile> quantize_in_memory(const Digest& key, const PayloadMaker& make, ThreadPool& pool) {
  const OpenFile file(::memfd_create("inferd-quantized", MFD_CLOEXEC));
  const std::filesystem::path path = "/proc/self/fd/" + std::to_string(file.fd);
  if (file.fd < 0) throw MemoryError("quantising needs memory of its own, which the system refuses");
  try {
    fill(file.fd, path, key, make, pool);
  } catch (const CacheWriteError& full) {
    throw MemoryError(std::string("quantised weights do not fit in memory: ") + full.what());
  }
  return MappedFile::open(path);
}

}  // namespace inferd
