// Linear layers of narrow group-quantised weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g2_32)
INFERD_LINEAR_KERNELS(g2_64)
INFERD_LINEAR_KERNELS(g3_32)
INFERD_LINEAR_KERNELS(g3_64)

}  // namespace inferd::cuda
