// CudaBackend: the Backend of one NVIDIA GPU.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/driver_launcher.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/graph_cache.h"

namespace inferd::cuda {

/// See Backend. Everything is queued on one stream; uploads too, so that they arrive before what is queued after them.
class CudaBackend final : public Backend {
 public:
  /// Throws ConfigError if the GPU cannot be used, MemoryError.
  explicit CudaBackend(const CudaBackendOptions& options);
  ~CudaBackend() override;

  std::string name() const override;
  std::size_t available_bytes() const override;
  bool keeps_kv(DType) const override { return true; }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override;
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override;
  std::unique_ptr<LowRank> load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                         std::int64_t columns) override;
  std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts) override {
    return cuda::group_experts(experts, weight_memory_);
  }
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override;
  void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) override;
  std::size_t extra_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns) const override;

  void upload(void* device, const void* host, std::size_t bytes) override { staging_.upload(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { staging_.download(host, device, bytes); }
  void synchronize() override { stream_.synchronize(); }
  bool captures() const override { return true; }
  void captured(std::uint64_t key, const std::function<void()>& work) override;
  bool samples(std::int64_t vocab_size) const override { return vocab_size <= kMaxSampleVocab; }
  std::unique_ptr<HostCopy> host_copy(std::size_t bytes) override;

  void embedding(const EmbeddingArgs& args) override { cuda::embedding(here(), args); }
  void norm(const NormArgs& args) override { cuda::norm(here(), args); }
  void to_activation(const ToActivationArgs& args) override { cuda::to_activation(here(), args); }
  void linear(const LinearArgs& args) override { cuda::linear(here(), args); }
  void lora(const LoraArgs& args) override { cuda::lora(here(), args); }
  void rope_table(const RopeTableArgs& args) override { cuda::rope_table(here(), args); }
  void qkv_post(const QkvPostArgs& args) override { cuda::qkv_post(here(), args); }
  void attention(const AttentionArgs& args) override { cuda::attention(here(), args); }
  void encoder_attention(const EncoderAttentionArgs& args) override { cuda::encoder_attention(here(), args); }
  void route(const RouteArgs& args) override { cuda::route(here(), args); }
  void gather_activation(const GatherActivationArgs& args) override { cuda::gather_activation(here(), args); }
  void expert_linear(const ExpertLinearArgs& args) override { cuda::expert_linear(here(), args); }
  void combine_experts(const CombineExpertsArgs& args) override { cuda::combine_experts(here(), args); }
  void gather_rows(const GatherRowsArgs& args) override { cuda::gather_rows(here(), args); }
  void pool(const PoolArgs& args) override { cuda::pool(here(), args); }
  void sample(const SampleArgs& args) override { cuda::sample(here(), args); }
  void take_tokens(const TakeTokensArgs& args) override { cuda::take_tokens(here(), args); }

  const Stream& stream() const { return stream_; }
  /// What name() says of arithmetic that depends on a step's size: ", cuBLASLt 13.1.0", or nothing.
  std::string arithmetic() const;
  /// In the calling thread, as here().
  GraphCache& graphs() {
    context_.enter();
    return graphs_;
  }
  /// The launcher, in the calling thread.
  Launcher& here() {
    context_.enter();
    return launcher_;
  }

 private:
  /// How weights come up here.
  class Uploads final : public WeightMemory {
   public:
    explicit Uploads(CudaBackend& backend) : backend_(backend) {}
    std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override { return backend_.allocate(bytes); }
    std::byte* stage(std::size_t bytes) override;
    void upload(void* device, const std::byte* staged, std::size_t bytes) override;

   private:
    CudaBackend& backend_;
  };

  const ActivationMode mode_;
  Context context_;
  Stream stream_;
  std::unique_ptr<Blas> blas_;  // null: batch-invariant
  Staging staging_;
  DriverLauncher launcher_;
  GraphCache graphs_;
  const std::size_t untouched_bytes_;  // of what was free at the start: not ours to take
  DeviceMemory workspace_;
  ThreadPool pool_;  // packs weights
  Uploads weight_memory_{*this};
};

}  // namespace inferd::cuda
