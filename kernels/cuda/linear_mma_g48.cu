// Linear layers of wide group-quantised weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(g4_32)
INFERD_LINEAR_KERNELS(g4_64)
INFERD_LINEAR_KERNELS(g8_32)
INFERD_LINEAR_KERNELS(g8_64)

}  // namespace inferd::cuda
