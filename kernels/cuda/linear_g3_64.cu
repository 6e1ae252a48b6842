// Linear layers of g3_64 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g3_64)

}  // namespace inferd::cuda
