// Linear layers of q5_0 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q5_0)

}  // namespace inferd::cuda
