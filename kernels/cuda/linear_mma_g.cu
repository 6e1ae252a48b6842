// Linear layers of narrow group-quantised weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g2_32)
INFERD_LINEAR_KERNELS(g2_64)
// Without those of experts, which are rare in this format and would spill on sm_75.
INFERD_LINEAR_KERNEL(g3_32, 8, 0)
INFERD_LINEAR_KERNEL(g3_32, 16, 1)
INFERD_LINEAR_KERNEL(g3_32, 32, 2)
INFERD_LINEAR_KERNEL(g3_32, 64, 3)
INFERD_LINEAR_KERNEL(g3_32, prefill, 4)
INFERD_LINEAR_KERNELS(g3_64)

}  // namespace inferd::cuda
