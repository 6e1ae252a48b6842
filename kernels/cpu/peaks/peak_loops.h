// PeakLoops: the loops that measure_* of peaks.h time, compiled once per instruction level.
#pragma once

#include <cstddef>
#include <cstdint>

namespace inferd {

/// The loops of one level. `seed` and the result only keep the compiler from leaving work out.
struct PeakLoops {
  /// Reads `bytes` (a multiple of 1 KiB) from 64-byte aligned memory once.
  std::uint64_t (*read)(const std::byte* data, std::size_t bytes);
  /// `rounds` rounds of int8_ops_per_round operations.
  std::int32_t (*int8)(const std::int8_t* seed, std::int64_t rounds);
  std::int64_t int8_ops_per_round;
  /// `rounds` rounds of f32_ops_per_round operations. seed: 64 bytes.
  float (*f32)(const float* seed, std::int64_t rounds);
  std::int64_t f32_ops_per_round;
};

}  // namespace inferd
