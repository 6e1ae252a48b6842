// CpuBackend: the Backend of the processor itself.
#pragma once

#include <string>

#include "kernels/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/weight_memory.h"

namespace inferd {

/// See Backend. Memory is host memory: upload and download copy, synchronize has nothing to wait for.
class CpuBackend final : public Backend {
 public:
  /// Throws ConfigError for an impossible level or thread count.
  explicit CpuBackend(const CpuBackendOptions& options);

  std::string name() const override;
  std::size_t available_bytes() const override { return available_memory(); }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override;
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override;
  std::unique_ptr<LowRank> load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                         std::int64_t columns) override;
  std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts) override {
    return cpu_group_experts(experts);
  }
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override;
  void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) override;

  void upload(void* device, const void* host, std::size_t bytes) override;
  void download(void* host, const void* device, std::size_t bytes) override;
  void synchronize() override {}

  void embedding(const EmbeddingArgs& args) override { cpu_embedding(context_, args); }
  void norm(const NormArgs& args) override { cpu_norm(context_, args); }
  void to_activation(const ToActivationArgs& args) override { cpu_to_activation(context_, args); }
  void linear(const LinearArgs& args) override { cpu_linear(context_, args); }
  void lora(const LoraArgs& args) override { cpu_lora(context_, args); }
  void rope_table(const RopeTableArgs& args) override { cpu_rope_table(context_, args); }
  void qkv_post(const QkvPostArgs& args) override { cpu_qkv_post(context_, args); }
  void attention(const AttentionArgs& args) override { cpu_attention(context_, args); }
  void encoder_attention(const EncoderAttentionArgs& args) override { cpu_encoder_attention(context_, args); }
  void route(const RouteArgs& args) override { cpu_route(context_, args); }
  void gather_activation(const GatherActivationArgs& args) override { cpu_gather_activation(context_, args); }
  void expert_linear(const ExpertLinearArgs& args) override { cpu_expert_linear(context_, args); }
  void combine_experts(const CombineExpertsArgs& args) override { cpu_combine_experts(context_, args); }
  void gather_rows(const GatherRowsArgs& args) override { cpu_gather_rows(context_, args); }
  void pool(const PoolArgs& args) override { cpu_pool(context_, args); }

 private:
  void reserve_reorder_scratch();

  ActivationMode mode_;
  ThreadPool pool_;
  CpuContext context_;
  WeightMemory weight_memory_;
  CpuMemory worker_scratch_;
  CpuMemory shared_scratch_;
  CpuMemory decode_scratch_;
  CpuMemory reorder_scratch_;
  std::int64_t reserved_tokens_ = 0;
  std::size_t reorder_bytes_per_token_ = 0;  // the most that any weight needs
};

}  // namespace inferd
