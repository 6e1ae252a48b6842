// Memory, weights and workspace of the CPU backend; its operations are in linear/ and ops/.
#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/linear/activation.h"
#include "kernels/cpu/linear/cpu_low_rank.h"
#include "kernels/cpu/linear/cpu_weight.h"
#include "kernels/cpu/linear/packed_format.h"

namespace inferd {
namespace {

constexpr int kMaxThreads = 1024;
constexpr std::int64_t kLargestWorkspace = std::int64_t{1} << 40;

int checked_threads(int threads) {
  if (threads < 0 || threads > kMaxThreads) {
    throw ConfigError("threads: expected 0 to " + std::to_string(kMaxThreads) + ", found " + std::to_string(threads));
  }
  return threads == 0 ? std::min(default_thread_count(), kMaxThreads) : threads;
}

class HostBuffer final : public DeviceBuffer {
 public:
  explicit HostBuffer(std::size_t bytes) : memory_(bytes) {}
  void* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return memory_.bytes(); }

 private:
  CpuMemory memory_;
};

}  // namespace

CpuBackend::CpuBackend(const CpuBackendOptions& options)
    : mode_(options.activations),
      pool_(checked_threads(options.threads)),
      context_{.pool = pool_, .level = choose_cpu_level(options.isa)} {
  reserve_workspace(1, 0);
}

std::string CpuBackend::name() const {
  const int threads = pool_.size();
  return "cpu (" + std::string(cpu_level_name(context_.level)) + ", " + std::to_string(threads) +
         (threads == 1 ? " thread)" : " threads)");
}

std::unique_ptr<DeviceBuffer> CpuBackend::allocate(std::size_t bytes) { return std::make_unique<HostBuffer>(bytes); }

std::unique_ptr<Weight> CpuBackend::load_weight(std::span<const WeightSource> parts, const WeightOptions& options) {
  auto weight = std::make_unique<CpuWeight>(parts, options, mode_, pool_, weight_memory_);
  const std::size_t floats = static_cast<std::size_t>(weight->columns()) * kScratchFloats;
  if (weight->widens() && floats > context_.decode_scratch_floats) {
    decode_scratch_ = CpuMemory(floats * sizeof(float) * static_cast<std::size_t>(pool_.size()));
    context_.decode_scratch = reinterpret_cast<float*>(decode_scratch_.data());
    context_.decode_scratch_floats = floats;
  }
  if (const std::size_t orders = weight->column_orders().size(); orders > 0) {
    // A group of rows at a time, as the int8 form is laid out.
    const std::size_t bytes =
        inferd::activation_bytes(kActivationGroup, weight->columns(), weight->reordered_form()) / kActivationGroup;
    reorder_bytes_per_token_ = std::max(reorder_bytes_per_token_, bytes * orders);
    reserve_workspace(reserved_tokens_, weight->columns());
  }
  return weight;
}

std::unique_ptr<LowRank> CpuBackend::load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                                   std::int64_t columns) {
  return std::make_unique<CpuLowRank>(parts, rows, columns);
}

void CpuBackend::reserve_reorder_scratch() {
  const std::int64_t rows = (reserved_tokens_ + kActivationGroup - 1) / kActivationGroup * kActivationGroup;
  const std::size_t bytes = reorder_bytes_per_token_ * static_cast<std::size_t>(rows);
  if (bytes <= context_.reorder_scratch_bytes) return;
  reorder_scratch_ = CpuMemory(bytes);
  context_.reorder_scratch = reorder_scratch_.data();
  context_.reorder_scratch_bytes = bytes;
}

std::size_t CpuBackend::activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const {
  return inferd::activation_bytes(rows, columns, forms);
}

void CpuBackend::reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) {
  INFERD_CHECK(max_tokens >= 0 && max_columns >= 0);
  if (max_tokens > kLargestWorkspace || max_columns > kLargestWorkspace)
    throw MemoryError("the workspace is too large");
  reserved_tokens_ = std::max(reserved_tokens_, max_tokens);
  reserve_reorder_scratch();
  const std::size_t floats = (static_cast<std::size_t>(max_columns) + CpuContext::kMinScratchFloats + 15) / 16 * 16;
  if (floats > context_.worker_scratch_floats) {
    worker_scratch_ = CpuMemory(floats * sizeof(float) * static_cast<std::size_t>(pool_.size()));
    context_.worker_scratch = reinterpret_cast<float*>(worker_scratch_.data());
    context_.worker_scratch_floats = floats;
  }
  const std::size_t shared = cpu_shared_scratch_bytes(pool_.size(), max_tokens, max_columns);
  if (shared > context_.shared_scratch_bytes) {
    shared_scratch_ = CpuMemory(shared);
    context_.shared_scratch = shared_scratch_.data();
    context_.shared_scratch_bytes = shared;
  }
}

void CpuBackend::upload(void* device, const void* host, std::size_t bytes) {
  if (bytes > 0) std::memcpy(device, host, bytes);
}

void CpuBackend::download(void* host, const void* device, std::size_t bytes) {
  if (bytes > 0) std::memcpy(host, device, bytes);
}

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace inferd
