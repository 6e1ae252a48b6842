// Contexts, memory and copies over the driver's table.
#include "kernels/cuda/cuda_memory.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/alignment.h"

namespace inferd::cuda {
namespace {

constexpr int kOutOfMemory = 2;  // CUresult
constexpr int kNotReady = 600;
constexpr unsigned kStreamNonBlocking = 1;   // CUstream_flags
constexpr unsigned kEventDisableTiming = 2;  // CUevent_flags

DevicePointer address(const void* device) { return reinterpret_cast<std::uintptr_t>(device); }

}  // namespace

Context::Context(const Driver& driver, int ordinal) : driver_(driver) {
  const std::vector<DeviceInfo> found = driver_.devices();
  if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= found.size()) {
    throw ConfigError("cuda:" + std::to_string(ordinal) + ": this machine has " + std::to_string(found.size()) +
                      (found.size() == 1 ? " GPU" : " GPUs"));
  }
  info_ = found[static_cast<std::size_t>(ordinal)];
  label_ = "GPU " + std::to_string(ordinal) + ", " + info_.name;
  check(api().device_get(&device_, ordinal), "open the GPU");
  check(api().context_retain(&handle_, device_), "open the GPU");
}

// What a destructor's call answers tells nothing new: after an error that stays, everything fails.
Context::~Context() { api().context_release(device_); }

void Context::enter() const { check(api().context_set(handle_), "enter the GPU's context"); }

std::size_t Context::free_bytes() const {
  std::size_t free = 0, total = 0;
  enter();
  check(api().memory_info(&free, &total), "ask for free memory");
  return free;
}

void Context::out_of_memory(std::size_t needed) const {
  throw MemoryError(label_ + ": needs " + std::to_string(needed) + " bytes of device memory, " +
                    std::to_string(free_bytes()) + " are free");
}

Stream::Stream(const Context& context) : context_(context) {
  context_.enter();
  context_.check(context_.api().stream_create(&handle_, kStreamNonBlocking), "make a stream");
}

Stream::~Stream() {
  if (context_.try_enter()) context_.api().stream_destroy(handle_);
}

void Stream::synchronize() const {
  context_.enter();
  context_.check(context_.api().stream_synchronize(handle_), "finish the queued work");
}

bool Stream::done() const {
  context_.enter();
  const int status = context_.api().stream_query(handle_);
  if (status == kNotReady) return false;
  context_.check(status, "finish the queued work");
  return true;
}

DeviceMemory::DeviceMemory(const Stream& stream, std::size_t bytes) : stream_(&stream), bytes_(bytes) {
  const Context& context = stream.context();
  context.enter();
  DevicePointer pointer = 0;
  const std::size_t taken = std::max<std::size_t>(bytes, 1);
  const int status = context.api().memory_alloc(&pointer, taken);
  if (status == kOutOfMemory) context.out_of_memory(bytes);
  context.check(status, "allocate memory");
  data_ = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(pointer));
  const int filled = context.api().fill(pointer, 0, taken, stream.handle());
  if (filled == 0) return;
  context.api().memory_free(pointer);
  context.check(filled, "clear memory");
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr || !stream_->context().try_enter()) return;
  const DriverTable& api = stream_->context().api();
  api.stream_synchronize(stream_->handle());
  api.memory_free(address(data_));
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(stream_, other.stream_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Staging::Staging(const Stream& stream) : stream_(stream) {
  const Context& context = stream_.context();
  context.enter();
  try {
    for (Chunk& chunk : chunks_) {
      context.check(context.api().event_create(&chunk.sent, kEventDisableTiming), "make an event");
    }
    void* received = nullptr;
    context.check(context.api().pinned_alloc(&received, kLeastChunk, 0), "pin host memory");
    received_ = static_cast<std::byte*>(received);
    allocate(kLeastChunk);
  } catch (...) {
    release();
    throw;
  }
}

Staging::~Staging() {
  if (!stream_.context().try_enter()) return;
  stream_.context().api().stream_synchronize(stream_.handle());
  release();
}

void Staging::allocate(std::size_t chunk_bytes) {
  const Context& context = stream_.context();
  for (Chunk& chunk : chunks_) {
    void* data = nullptr;
    context.check(context.api().pinned_alloc(&data, chunk_bytes, 0), "pin host memory");
    chunk.data = static_cast<std::byte*>(data);
    chunk.in_flight = false;
  }
  chunk_bytes_ = chunk_bytes;
  current_ = used_ = 0;
}

void Staging::release() noexcept {
  const DriverTable& api = stream_.context().api();
  for (Chunk& chunk : chunks_) {
    if (chunk.data != nullptr) api.pinned_free(chunk.data);
    if (chunk.sent != nullptr) api.event_destroy(chunk.sent);
    chunk = {};
  }
  if (received_ != nullptr) api.pinned_free(received_);
  received_ = nullptr;
}

void Staging::advance() {
  const Context& context = stream_.context();
  context.check(context.api().event_record(chunks_[current_].sent, stream_.handle()), "record an event");
  chunks_[current_].in_flight = true;
  current_ = (current_ + 1) % kChunks;
  used_ = 0;
  if (!std::exchange(chunks_[current_].in_flight, false)) return;
  context.check(context.api().event_synchronize(chunks_[current_].sent), "copy to the GPU");
}

std::byte* Staging::stage(std::size_t bytes) {
  stream_.context().enter();
  if (bytes > chunk_bytes_) {
    stream_.synchronize();
    for (Chunk& chunk : chunks_) stream_.context().api().pinned_free(std::exchange(chunk.data, nullptr));
    allocate(std::bit_ceil(bytes));
  } else if (bytes > chunk_bytes_ - used_) {
    advance();
  }
  return chunks_[current_].data + used_;
}

void Staging::send(void* to, std::size_t bytes) {
  const Context& context = stream_.context();
  INFERD_CHECK(bytes <= chunk_bytes_ - used_);
  if (bytes == 0) return;
  const std::byte* staged = chunks_[current_].data + used_;
  context.check(context.api().copy_to_device(address(to), staged, bytes, stream_.handle()), "copy to the GPU");
  used_ = std::min(chunk_bytes_, aligned(used_ + bytes));
}

void Staging::upload(void* to, const void* from, std::size_t bytes) {
  stream_.context().enter();
  for (std::size_t done = 0; done < bytes;) {
    if (used_ == chunk_bytes_) advance();
    const std::size_t count = std::min(bytes - done, chunk_bytes_ - used_);
    std::memcpy(chunks_[current_].data + used_, static_cast<const std::byte*>(from) + done, count);
    send(static_cast<std::byte*>(to) + done, count);
    done += count;
  }
}

void Staging::download(void* to, const void* from, std::size_t bytes) {
  const Context& context = stream_.context();
  context.enter();
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t count = std::min(bytes - done, kLeastChunk);
    context.check(context.api().copy_to_host(received_, address(from) + done, count, stream_.handle()),
                  "copy from the GPU");
    stream_.synchronize();
    std::memcpy(static_cast<std::byte*>(to) + done, received_, count);
    done += count;
  }
}

PinnedCopy::PinnedCopy(const Stream& stream, std::size_t bytes) : stream_(stream), bytes_(bytes) {
  const Context& context = stream_.context();
  context.enter();
  void* data = nullptr;
  context.check(context.api().pinned_alloc(&data, std::max<std::size_t>(bytes, 1), 0), "pin host memory");
  data_ = static_cast<std::byte*>(data);
  try {
    context.check(context.api().event_create(&done_, kEventDisableTiming), "make an event");
  } catch (...) {
    release();
    throw;
  }
}

PinnedCopy::~PinnedCopy() {
  if (!stream_.context().try_enter()) return;
  stream_.context().api().stream_synchronize(stream_.handle());  // a copy may be under way
  release();
}

void PinnedCopy::release() noexcept {
  const DriverTable& api = stream_.context().api();
  if (done_ != nullptr) api.event_destroy(done_);
  api.pinned_free(data_);
}

void PinnedCopy::start(const void* device, std::size_t bytes) {
  INFERD_CHECK(bytes <= bytes_);
  const Context& context = stream_.context();
  context.enter();
  if (bytes > 0) {
    context.check(context.api().copy_to_host(data_, address(device), bytes, stream_.handle()), "copy from the GPU");
  }
  context.check(context.api().event_record(done_, stream_.handle()), "record an event");
}

const std::byte* PinnedCopy::wait() {
  const Context& context = stream_.context();
  context.enter();
  context.check(context.api().event_synchronize(done_), "finish a step");
  return data_;
}

}  // namespace inferd::cuda
