// The compiled kernels inside this binary: one fatbinary for each kernels/cuda/*.cu.
#pragma once

#include <vector>

namespace inferd::cuda {

struct Image {
  const char* file;            // "rows" for kernels/cuda/rows.cu
  const unsigned char* bytes;  // as cuModuleLoadData takes it
};

/// Empty in a build without nvcc.
const std::vector<Image>& images();
/// Compute capabilities (major * 10 + minor) that the images were built for, ascending. Newer GPUs compile the last
/// one's PTX themselves.
const std::vector<int>& image_archs();

}  // namespace inferd::cuda
