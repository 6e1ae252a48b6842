// Memory, weights and workspace of the CUDA backend; its operations are in the files of their names.
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_low_rank.h"
#include "kernels/cuda/linear_panels.h"

namespace inferd {
namespace cuda {
namespace {

constexpr std::int64_t kLargestWorkspace = std::int64_t{1} << 30;  // tokens, columns
constexpr std::int64_t kPartialRows = 64;                          // sequences that decode together
constexpr std::size_t kPartialSpans = 32;                          // of 256 tokens
constexpr std::size_t kLargestPartials = std::size_t{48} << 20;    // bytes

class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(const Stream& stream, std::size_t bytes) : memory_(stream, bytes) {}
  void* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return memory_.bytes(); }

 private:
  DeviceMemory memory_;
};

Driver open_driver() {
  Driver driver = Driver::open();
  if (const std::string problem = driver.version_problem(); !problem.empty()) throw ConfigError(problem);
  return driver;
}

std::unique_ptr<Blas> make_blas(const CudaBackendOptions& options, const Stream& stream) {
  if (options.batch_invariant) return nullptr;
  const BlasLibrary library = BlasLibrary::open();
  stream.context().enter();
  return std::make_unique<Blas>(library, stream.handle());
}

std::size_t rest_of(std::size_t bytes, double fraction) {
  return static_cast<std::size_t>(static_cast<double>(bytes) * (1.0 - fraction));
}

}  // namespace

CudaBackend::CudaBackend(const CudaBackendOptions& options)
    : mode_(options.activations),
      context_(open_driver(), options.ordinal),
      stream_(context_),
      blas_(make_blas(options, stream_)),
      staging_(stream_),
      launcher_(stream_),
      graphs_(stream_),
      untouched_bytes_(rest_of(context_.free_bytes(), options.memory_fraction)),
      pool_(default_thread_count()) {
  launcher_.set_blas(blas_.get(), options.panels);
}

CudaBackend::~CudaBackend() {
  if (context_.try_enter()) blas_.reset();
}

std::string CudaBackend::name() const {
  return "cuda (" + context_.label() + ", sm_" + std::to_string(context_.info().arch()) + arithmetic() + ")";
}

std::string CudaBackend::arithmetic() const { return blas_ ? ", cuBLASLt " + blas_->version() : ""; }

std::size_t CudaBackend::available_bytes() const {
  const std::size_t free = context_.free_bytes();
  return free - std::min(free, untouched_bytes_);
}

std::unique_ptr<DeviceBuffer> CudaBackend::allocate(std::size_t bytes) {
  return std::make_unique<CudaBuffer>(stream_, bytes);
}

std::unique_ptr<Weight> CudaBackend::load_weight(std::span<const WeightSource> parts, const WeightOptions& options) {
  return std::make_unique<CudaWeight>(parts, options, mode_, launcher_.arch(), weight_memory_, pool_);
}

std::unique_ptr<LowRank> CudaBackend::load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                                    std::int64_t columns) {
  return std::make_unique<CudaLowRank>(parts, rows, columns, weight_memory_);
}

void CudaBackend::captured(std::uint64_t key, const std::function<void()>& work) {
  context_.enter();
  graphs_.run(key, work);
}

std::unique_ptr<HostCopy> CudaBackend::host_copy(std::size_t bytes) {
  return std::make_unique<PinnedCopy>(stream_, bytes);
}

std::size_t CudaBackend::activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const {
  std::size_t bytes = 0;
  activation_planes(nullptr, rows, columns, forms, &bytes);
  return bytes;
}

std::size_t CudaBackend::extra_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns) const {
  return blas_ ? panel_workspace_bytes(launcher_.panel_limits(), max_tokens, max_columns) : 0;
}

void CudaBackend::reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) {
  INFERD_CHECK(max_tokens >= 0 && max_columns >= 0);
  if (max_tokens > kLargestWorkspace || max_columns > kLargestWorkspace) {
    throw MemoryError("the workspace is too large");
  }
  // Attention's results and its partial sums are there when no linear layer is. With many sequences its partial sums
  // find no room: then there are blocks enough without them.
  const std::size_t partials =
      std::min(kLargestPartials, static_cast<std::size_t>(std::min(max_tokens, kPartialRows) * max_columns) *
                                     sizeof(float) * kPartialSpans);
  const std::size_t results = static_cast<std::size_t>(max_tokens * max_columns) * sizeof(float);
  const std::size_t linear =
      linear_workspace_bytes(max_tokens, max_columns) + extra_workspace_bytes(max_tokens, max_columns);
  const std::size_t bytes = std::max({linear, results + partials, sample_workspace_bytes(max_tokens)});
  if (bytes <= workspace_.bytes()) return;
  graphs_.forget();
  workspace_ = DeviceMemory();  // first: both together need not fit
  workspace_ = DeviceMemory(stream_, bytes);
  launcher_.set_workspace(workspace_.data(), workspace_.bytes());
}

std::byte* CudaBackend::Uploads::stage(std::size_t bytes) { return backend_.staging_.stage(bytes); }

void CudaBackend::Uploads::upload(void* device, const std::byte*, std::size_t bytes) {
  backend_.staging_.send(device, bytes);
}

}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options) {
  return std::make_unique<cuda::CudaBackend>(options);
}

}  // namespace inferd
