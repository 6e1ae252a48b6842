// Random rows of floats for kernel tests, the same in every run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace inferd::cuda::test {

/// `count` normal numbers times `scale`.
inline std::vector<float> normals(std::size_t count, std::uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator) * scale;
  return values;
}

}  // namespace inferd::cuda::test
