// Alignment of device memory: how arrays share an allocation, and who may read several floats at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace inferd::cuda {

/// Bytes an array takes so that the next begins at a multiple of 256, as an allocation does.
constexpr std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

/// True if `floats` neighbours can be one access in every row, `stride` floats apart; or if there are no rows.
inline bool aligned_rows(const void* rows, std::int64_t stride, int floats = 4) {
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  return rows == nullptr || (reinterpret_cast<std::uintptr_t>(rows) % bytes == 0 && stride % floats == 0);
}

}  // namespace inferd::cuda
