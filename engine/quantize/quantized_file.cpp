// Reading and writing the cache of quantised weights.
#include "engine/quantize/quantized_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <vector>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::string_view kTemporary = ".writing-", kSuffix = ".weights";

struct Header {
  char magic[4] = {'I', 'F', 'Q', 'W'};
  std::uint32_t version = kVersion;
  std::uint64_t payload_bytes = 0;
  Digest key{};
  Digest digest{};
  Digest source{};
  char zeros[kQuantizedHeaderBytes - 112] = {};
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
void fill(int fd, const std::filesystem::path& path, const Digest& key, const Digest& source, const PayloadMaker& make,
          ThreadPool& pool) {
  Header header;
  header.key = key;
  header.source = source;
  write_all(fd, &header, sizeof header, path);  // with the digest of nothing: not valid before the end
  make([&](const std::byte* data, std::size_t bytes) {
    write_all(fd, data, bytes, path);
    header.payload_bytes += bytes;
  });
  try {
    header.digest = payload_digest(*MappedFile::open(path), pool);
  } catch (const CheckpointError& removed) {
    throw CacheWriteError(removed.what());
  }
  if (::lseek(fd, 0, SEEK_SET) != 0) fail("cannot seek", path);
  write_all(fd, &header, sizeof header, path);
}

/// A new file, locked: its descriptor, and its path in `name`. Who removes abandoned files between its making and its
/// locking takes it for one of them, so it is made until it has kept its name.
int create_locked(const std::filesystem::path& folder, std::string* name) {
  for (;;) {
    *name = (folder / (std::string(kTemporary) + "XXXXXX")).string();
    const int fd = ::mkostemp(name->data(), O_CLOEXEC);
    if (fd < 0) fail("cannot create", folder);
    struct stat info {};
    const bool locked = ::flock(fd, LOCK_EX) == 0 && ::fstat(fd, &info) == 0;
    if (locked && info.st_nlink > 0) return fd;
    const int error = errno;
    ::close(fd);
    if (locked) continue;
    ::unlink(name->c_str());
    errno = error;
    fail("cannot lock", *name);
  }
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

/// A whole or broken file of the cache.
struct CacheFile {
  std::filesystem::path path;
  std::filesystem::file_time_type used;
  std::size_t bytes = 0;
};

/// All but those being written, the longest unused first.
std::vector<CacheFile> files_of(const std::filesystem::path& folder) {
  std::vector<CacheFile> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with('.') || !name.ends_with(kSuffix) || !entry.is_regular_file(error)) continue;
    const std::uintmax_t bytes = entry.file_size(error);
    if (error) continue;  // another process removed it
    const auto used = entry.last_write_time(error);
    if (!error) files.push_back({entry.path(), used, static_cast<std::size_t>(bytes)});
  }
  std::sort(files.begin(), files.end(), [](const CacheFile& a, const CacheFile& b) { return a.used < b.used; });
  return files;
}

/// The header's source; nothing if the file is no such file.
std::optional<Digest> source_of(const std::filesystem::path& path) {
  const OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  Header header;
  if (file.fd < 0 || ::read(file.fd, &header, sizeof header) != sizeof header) return std::nullopt;
  const Header expected;
  if (std::memcmp(header.magic, expected.magic, sizeof header.magic) != 0 || header.version != kVersion) {
    return std::nullopt;
  }
  return header.source;
}

std::string method_of(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return name.substr(0, name.find('-'));
}

}  // namespace

void touch_quantized_file(const std::filesystem::path& path) {
  std::error_code error;  // of a read-only cache
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now(), error);
}

void prune_cache(const std::filesystem::path& kept, std::size_t most_bytes) {
  const std::filesystem::path folder = kept.parent_path();
  // One process at a time, so that two that each think the sum too large do not remove twice as much.
  const OpenFile lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.fd < 0 || ::flock(lock.fd, LOCK_EX) != 0) return;
  const std::optional<Digest> source = source_of(kept);
  std::vector<CacheFile> files = files_of(folder);
  std::size_t total = 0;
  for (const CacheFile& file : files) total += file.bytes;
  const auto remove = [&](const CacheFile& file, const char* why) {
    std::error_code error;
    if (!std::filesystem::remove(file.path, error)) return;
    total -= file.bytes;
    spdlog::info("removed {} from the cache of quantised weights: {}", log_safe(file.path.string()), why);
  };
  std::erase_if(files, [&](const CacheFile& file) {
    if (file.path.filename() == kept.filename()) return true;
    const bool old = method_of(file.path) == method_of(kept) && source && source_of(file.path) == source;
    if (old) remove(file, "its model has other weights now");
    return old;
  });
  for (const CacheFile& file : files) {
    if (total <= most_bytes) break;
    remove(file, "the cache is larger than cache_limit");
  }
}

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
    expected.source = header.source;  // the same weights may lie elsewhere
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

void write_quantized_file(const std::filesystem::path& path, const Digest& key, const Digest& source,
                          const PayloadMaker& make, ThreadPool& pool) {
  const std::filesystem::path folder = path.parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  remove_abandoned(folder);
  std::string name;
  const OpenFile file(create_locked(folder, &name));
  try {
    fill(file.fd, name, key, source, make, pool);
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
    fill(file.fd, path, key, {}, make, pool);
  } catch (const CacheWriteError& full) {
    throw MemoryError(std::string("quantised weights do not fit in memory: ") + full.what());
  }
  return MappedFile::open(path);
}

}  // namespace inferd
