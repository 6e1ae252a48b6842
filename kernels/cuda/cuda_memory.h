// One GPU's context, and owners of what is taken from it: device memory, pinned memory, a stream, copies.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/driver.h"

namespace inferd::cuda {

/// The primary context of one GPU, held for as long as this lives. Thread-safe.
class Context {
 public:
  /// Throws ConfigError if the driver has no such GPU, and what Driver::check throws.
  Context(const Driver& driver, int ordinal);
  ~Context();
  Context(const Context&) = delete;

  /// Makes this the calling thread's context, which every call of the driver needs.
  void enter() const;
  /// For destructors: false if that failed.
  bool try_enter() const noexcept { return api().context_set(handle_) == 0; }
  void check(int status, const char* action) const {
    if (status != 0) driver_.check(status, std::string(action) + " (" + label_ + ")");
  }
  const DriverTable& api() const { return driver_.table(); }
  const DeviceInfo& info() const { return info_; }
  const std::string& label() const { return label_; }  // "GPU 0, NVIDIA L4"

  std::size_t free_bytes() const;
  /// "GPU 0, NVIDIA L4: needs N bytes of device memory, M are free"
  [[noreturn]] void out_of_memory(std::size_t needed) const;

 private:
  Driver driver_;
  DeviceInfo info_;
  std::string label_;
  int device_ = 0;
  ContextHandle handle_ = nullptr;
};

/// A stream of its own, waiting for no other.
class Stream {
 public:
  explicit Stream(const Context& context);
  ~Stream();
  Stream(const Stream&) = delete;
  const Context& context() const { return context_; }
  StreamHandle handle() const { return handle_; }
  /// Waits for all that was queued; throws what went wrong in it.
  void synchronize() const;
  /// Whether all that was queued is done; throws what went wrong in it.
  bool done() const;

 private:
  const Context& context_;
  StreamHandle handle_ = nullptr;
};

/// Device memory, filled with zeros before what its stream is given next; the stream is waited for before it goes.
/// Empty if default-constructed.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  /// Throws MemoryError with the bytes needed and free. `bytes` may be 0.
  DeviceMemory(const Stream& stream, std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;
  std::byte* data() const { return data_; }  // a device address
  std::size_t bytes() const { return bytes_; }

 private:
  const Stream* stream_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Copies between host memory and the device, in the order of one stream. What goes up goes through pinned chunks, used
/// in turn: the caller has its memory back at once, and the copy runs behind its next work.
class Staging {
 public:
  explicit Staging(const Stream& stream);
  ~Staging();
  Staging(const Staging&) = delete;

  void upload(void* to, const void* from, std::size_t bytes);
  /// Pinned memory to be filled and sent, 256-byte aligned; the chunks grow to what is asked for (then the stream is
  /// waited for). Valid until the next upload or stage.
  std::byte* stage(std::size_t bytes);
  /// Copies the first `bytes` of what `stage` returned last.
  void send(void* to, std::size_t bytes);
  /// Waits for the stream.
  void download(void* to, const void* from, std::size_t bytes);

  static constexpr int kChunks = 4;
  static constexpr std::size_t kLeastChunk = std::size_t{1} << 20;

 private:
  struct Chunk {
    std::byte* data = nullptr;  // pinned
    EventHandle sent = nullptr;
    bool in_flight = false;  // `sent` has been recorded, and not been waited for
  };

  void allocate(std::size_t chunk_bytes);
  void release() noexcept;
  /// Closes the current chunk and makes the next one ready to be filled.
  void advance();

  const Stream& stream_;
  std::array<Chunk, kChunks> chunks_;
  std::size_t chunk_bytes_ = 0;
  std::size_t current_ = 0;        // chunk being filled
  std::size_t used_ = 0;           // its bytes that hold copies under way, a multiple of 256 or all
  std::byte* received_ = nullptr;  // pinned, kLeastChunk bytes: what is being downloaded
};

/// Pinned host memory and an event: what comes down without the stream being waited for.
class PinnedCopy final : public HostCopy {
 public:
  /// Throws what Driver::check throws.
  PinnedCopy(const Stream& stream, std::size_t bytes);
  ~PinnedCopy() override;
  PinnedCopy(const PinnedCopy&) = delete;
  void start(const void* device, std::size_t bytes) override;
  const std::byte* wait() override;

 private:
  void release() noexcept;

  const Stream& stream_;
  const std::size_t bytes_;
  std::byte* data_ = nullptr;
  EventHandle done_ = nullptr;
};

}  // namespace inferd::cuda
