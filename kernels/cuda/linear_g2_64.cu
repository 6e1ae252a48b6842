// Linear layers of g2_64 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g2_64)

}  // namespace inferd::cuda
