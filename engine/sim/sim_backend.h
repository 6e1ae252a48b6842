// SimBackend: host memory and nothing else, for the simulated models.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace inferd {

/// Every operation of the catalogue aborts: a simulated model calls none. Thread rule as Backend.
class SimBackend final : public Backend {
 public:
  /// `available_bytes` is what it says it could allocate.
  explicit SimBackend(std::size_t available_bytes = std::size_t{256} << 20) : available_bytes_(available_bytes) {}

  std::string name() const override { return "sim"; }
  std::size_t available_bytes() const override { return available_bytes_; }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override;
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override;
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override;
  void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) override;
  void upload(void* device, const void* host, std::size_t bytes) override;
  void download(void* host, const void* device, std::size_t bytes) override;
  void synchronize() override {}

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

  /// Allocations ever made, so that tests can see that steps make none.
  std::int64_t allocations() const { return allocations_; }

 private:
  std::size_t available_bytes_;
  std::int64_t allocations_ = 0;
};

}  // namespace inferd
