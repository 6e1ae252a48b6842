// Linear layers of Q4 and Q8 weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q4_0)
INFERD_LINEAR_KERNELS(q4_1)
INFERD_LINEAR_KERNELS(q8_0)

}  // namespace inferd::cuda
