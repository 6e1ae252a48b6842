// TensorParallelBackend: several GPUs that do the same in step, each with its part of the weights.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/nccl.h"

namespace inferd::cuda {

/// See Backend. Every buffer is on every rank; the address its caller knows is rank 0's. What the ranks compute from
/// sharded weights differs, all else is the same on all, bit for bit. Products of weights sharded by columns are
/// gathered and added in the order of ranks, whatever the size of the step.
class TensorParallelBackend final : public Backend {
 public:
  /// Throws ConfigError: fewer than two GPUs, one twice, different architectures, no NCCL, or what CudaBackend throws.
  explicit TensorParallelBackend(const TensorParallelOptions& options);
  ~TensorParallelBackend() override;

  std::string name() const override;
  int ranks() const override { return static_cast<int>(ranks_.size()); }
  std::size_t available_bytes() const override;  // of the rank that has the least
  bool keeps_kv(DType) const override { return true; }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override;
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override;
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override;
  void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) override;
  std::size_t extra_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns) const override {
    return ranks_[0].backend->extra_workspace_bytes(max_tokens, max_columns);
  }

  void upload(void* device, const void* host, std::size_t bytes) override;
  void upload_parts(void* device, const void* host, std::size_t bytes) override;
  void download(void* host, const void* device, std::size_t bytes) override;
  /// Looks at all ranks in turn, so that one that is lost is noticed while the others wait for it.
  void synchronize() override;
  bool captures() const override { return true; }
  void captured(std::uint64_t key, const std::function<void()>& work) override;

  void embedding(const EmbeddingArgs& args) override;
  void norm(const NormArgs& args) override;
  void to_activation(const ToActivationArgs& args) override;
  void linear(const LinearArgs& args) override;
  void rope_table(const RopeTableArgs& args) override;
  void qkv_post(const QkvPostArgs& args) override;
  void attention(const AttentionArgs& args) override;
  void encoder_attention(const EncoderAttentionArgs& args) override;
  void gather_rows(const GatherRowsArgs& args) override;
  void pool(const PoolArgs& args) override;

 private:
  class Buffer;

  struct Rank {
    std::unique_ptr<CudaBackend> backend;
    std::unique_ptr<DeviceBuffer> gathered;  // [ranks, tokens, columns] f32: the products of all ranks
  };
  struct Mirror {
    std::size_t bytes;
    std::vector<std::byte*> at;  // by rank
  };

  /// Where a rank has what its caller knows by rank 0's address.
  void* local(std::size_t rank, void* device) const;
  template <typename... Parts>
  void translate(std::size_t rank, Parts&... parts) const;
  void translate_one(std::size_t rank, Tensor& tensor) const { tensor.data = local(rank, tensor.data); }
  void translate_one(std::size_t rank, Activation& view) const { view.data = local(rank, view.data); }
  void translate_one(std::size_t rank, KvLayer& kv) const { translate(rank, kv.keys, kv.values); }
  BatchTensors local_batch(std::size_t rank, const BatchTensors& batch) const;
  /// Calls function(); if a GPU is lost in it, no other waits for it any more.
  template <typename Function>
  void guarded(Function function);
  /// Calls function(rank, its backend) for every rank.
  template <typename Function>
  void each(Function function);
  LinearArgs local_linear(std::size_t rank, const LinearArgs& args) const;
  /// Part r of every rank's `gathered` becomes what rank r computes of args, `adjust`ed to (r, its arguments).
  template <typename Adjust>
  void gather_products(const LinearArgs& args, Adjust adjust);
  void linear_by_columns(const LinearArgs& args);
  void linear_joined(const LinearArgs& args);

  std::vector<Rank> ranks_;
  std::unique_ptr<Communicators> communicators_;
  std::map<const std::byte*, Mirror> mirrors_;  // by rank 0's address
};

}  // namespace inferd::cuda
