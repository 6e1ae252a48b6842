// Parameters of the kernel of rope.cu.
#pragma once

#include <cstdint>

namespace inferd::cuda {

/// out[t][i] = (cos, sin)(position[t] * inv_freq[row of t][i]) * scaling.
struct RopeTableParams {
  const std::int32_t* positions;  // [T]
  const float* inv_freq;          // [V, pairs]
  const std::int32_t* rows;       // [T] or null: row 0
  float* out;                     // [T] rows of `pairs` times cos, sin
  std::int64_t out_stride;        // elements
  std::uint32_t count;            // T * pairs
  std::uint32_t pairs;
  float scaling;
};

}  // namespace inferd::cuda
