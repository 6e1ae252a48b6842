// Linear layers of g8_32 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g8_32)

}  // namespace inferd::cuda
