// SimBackend: allocate and copy; the rest is never called.
#include "engine/sim/sim_backend.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {
namespace {

class HostBuffer final : public DeviceBuffer {
 public:
  explicit HostBuffer(std::size_t bytes) : data_(std::calloc(bytes > 0 ? bytes : 1, 1)), bytes_(bytes) {
    if (data_ == nullptr) throw MemoryError("sim: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  ~HostBuffer() override { std::free(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  void* data() const override { return data_; }
  std::size_t bytes() const override { return bytes_; }

 private:
  void* data_;
  std::size_t bytes_;
};

[[noreturn]] void never_called() { check_failed("a simulated model calls no operation", __FILE__, __LINE__); }

}  // namespace

std::unique_ptr<DeviceBuffer> SimBackend::allocate(std::size_t bytes) {
  if (bytes > available_bytes_) {
    throw MemoryError("sim: " + std::to_string(bytes) + " bytes were asked for, " + std::to_string(available_bytes_) +
                      " are available");
  }
  ++allocations_;
  return std::make_unique<HostBuffer>(bytes);
}

void SimBackend::upload(void* device, const void* host, std::size_t bytes) { std::memcpy(device, host, bytes); }
void SimBackend::download(void* host, const void* device, std::size_t bytes) { std::memcpy(host, device, bytes); }
void SimBackend::reserve_workspace(std::int64_t, std::int64_t) {}
std::size_t SimBackend::activation_bytes(std::int64_t, std::int64_t, std::uint32_t) const { return 0; }

std::unique_ptr<Weight> SimBackend::load_weight(std::span<const WeightSource>, const WeightOptions&) { never_called(); }
void SimBackend::embedding(const EmbeddingArgs&) { never_called(); }
void SimBackend::norm(const NormArgs&) { never_called(); }
void SimBackend::to_activation(const ToActivationArgs&) { never_called(); }
void SimBackend::linear(const LinearArgs&) { never_called(); }
void SimBackend::rope_table(const RopeTableArgs&) { never_called(); }
void SimBackend::qkv_post(const QkvPostArgs&) { never_called(); }
void SimBackend::attention(const AttentionArgs&) { never_called(); }
void SimBackend::encoder_attention(const EncoderAttentionArgs&) { never_called(); }
void SimBackend::gather_rows(const GatherRowsArgs&) { never_called(); }
void SimBackend::pool(const PoolArgs&) { never_called(); }

}  // namespace inferd
