// Linear layers of q4_1 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q4_1)

}  // namespace inferd::cuda
