// CudaLowRank: an adapter's update of one linear layer in device memory.
#pragma once

#include <memory>
#include <span>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/lora_params.h"

namespace inferd::cuda {

/// f32 factors: all A stacked with padded columns, every B transposed. Immutable; outlived by its memory's backend.
class CudaLowRank final : public LowRank {
 public:
  /// Throws MemoryError. Parts may overlap: then they add up, in the order given.
  CudaLowRank(std::span<const LowRankSource> parts, std::int64_t rows, std::int64_t columns, WeightMemory& memory);

  std::int64_t rank() const override { return view_.rank; }
  std::size_t bytes() const override { return buffer_->bytes(); }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  const LowRankView& view() const { return view_; }

 private:
  std::int64_t rows_;
  std::int64_t columns_;
  LowRankView view_{};
  std::unique_ptr<DeviceBuffer> buffer_;
};

}  // namespace inferd::cuda
