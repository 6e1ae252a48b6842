// ByteReader: a cursor over untrusted little-endian bytes that never passes their end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/errors.h"

namespace inferd {

/// Reads in order from `bytes`, which must outlive it. Throws CheckpointError naming file, field, offset and shortage.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }
  const std::string& file() const { return file_; }

  template <typename T>
  T read(std::string_view field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  /// The next `size` bytes.
  std::span<const std::byte> take(std::uint64_t size, std::string_view field) {
    if (size > remaining()) {
      throw CheckpointError(file_, std::string(field),
                            std::to_string(size) + " bytes at offset " + std::to_string(offset_),
                            std::to_string(remaining()) + " before the end of the file");
    }
    const auto taken = bytes_.subspan(offset_, static_cast<std::size_t>(size));
    offset_ += taken.size();
    return taken;
  }

  /// A u64 length of at most `limit`, then that many bytes.
  std::string_view text(std::uint64_t limit, std::string_view field) {
    const auto length = read<std::uint64_t>(field);
    if (length > limit) {
      throw CheckpointError(file_, std::string(field), "a length of at most " + std::to_string(limit),
                            std::to_string(length));
    }
    const auto taken = take(length, field);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  std::string file_;
  std::size_t offset_ = 0;
};

}  // namespace inferd
