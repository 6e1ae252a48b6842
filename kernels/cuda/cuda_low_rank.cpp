// Upload of a CudaLowRank: all A, all B, then the table of parts, in one buffer.
#include "kernels/cuda/cuda_low_rank.h"

#include <cstring>
#include <vector>

#include "base/check.h"

namespace inferd::cuda {

CudaLowRank::CudaLowRank(std::span<const LowRankSource> parts, std::int64_t rows, std::int64_t columns,
                         WeightMemory& memory)
    : rows_(rows), columns_(columns) {
  const std::int64_t stride = padded_columns(columns);
  std::int64_t floats = 0;
  std::int64_t rank = 0;
  for (const LowRankSource& part : parts) {
    INFERD_CHECK(part.rank > 0 && part.rows > 0 && part.first_row >= 0 && part.first_row + part.rows <= rows);
    floats += part.rank * (stride + part.rows);
    rank += part.rank;
  }
  const std::size_t table_at = (static_cast<std::size_t>(floats) * sizeof(float) + 15) / 16 * 16;
  const std::size_t bytes = table_at + parts.size() * sizeof(LowRankPart);
  buffer_ = memory.allocate(bytes);
  auto* device = static_cast<std::byte*>(buffer_->data());
  std::byte* staged = memory.stage(bytes);
  std::memset(staged, 0, table_at);
  auto* at = reinterpret_cast<float*>(staged);
  for (const LowRankSource& part : parts) {
    for (std::int64_t r = 0; r < part.rank; ++r, at += stride) {
      std::memcpy(at, part.a + r * columns, static_cast<std::size_t>(columns) * sizeof(float));
    }
  }
  std::vector<LowRankPart> table;
  std::int64_t first_rank = 0;
  for (const LowRankSource& part : parts) {
    table.push_back({reinterpret_cast<const float*>(device + (reinterpret_cast<std::byte*>(at) - staged)),
                     static_cast<std::int32_t>(first_rank), static_cast<std::int32_t>(part.rank),
                     static_cast<std::int32_t>(part.first_row), static_cast<std::int32_t>(part.rows)});
    for (std::int64_t r = 0; r < part.rank; ++r) {
      for (std::int64_t row = 0; row < part.rows; ++row) *at++ = part.b[row * part.rank + r];
    }
    first_rank += part.rank;
  }
  std::memcpy(staged + table_at, table.data(), table.size() * sizeof(LowRankPart));
  memory.upload(device, staged, bytes);
  view_ = {reinterpret_cast<const float*>(device), reinterpret_cast<const LowRankPart*>(device + table_at),
           static_cast<std::int32_t>(rank), static_cast<std::int32_t>(parts.size())};
}

}  // namespace inferd::cuda
