// Linear layers of Q5 weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q5_0)
INFERD_LINEAR_KERNELS(q5_1)

}  // namespace inferd::cuda
