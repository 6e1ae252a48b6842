// CpuLowRank: an adapter's update of one linear layer as the CPU keeps it.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_memory.h"

namespace inferd {

/// f32 factors: all A stacked, every B transposed, so that both are read forwards. Immutable; thread-safe to read.
class CpuLowRank final : public LowRank {
 public:
  struct Part {
    const float* b = nullptr;     // [rank, rows]
    std::int64_t first_rank = 0;  // of its A among the stacked ones
    std::int64_t rank = 0;
    std::int64_t first_row = 0;
    std::int64_t rows = 0;
  };

  /// Throws MemoryError. Parts may overlap: then they add up, in the order given.
  CpuLowRank(std::span<const LowRankSource> parts, std::int64_t rows, std::int64_t columns);

  std::int64_t rank() const override { return rank_; }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  const float* a() const { return a_; }  // [rank, columns]
  std::span<const Part> parts() const { return parts_; }

 private:
  std::int64_t rows_, columns_, rank_ = 0;
  CpuMemory memory_;
  const float* a_ = nullptr;
  std::vector<Part> parts_;
};

}  // namespace inferd
