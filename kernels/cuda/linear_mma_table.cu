// Linear layers of table weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(iq4_nl)
INFERD_LINEAR_KERNELS(iq4_xs)
INFERD_LINEAR_KERNELS(t4_16)
INFERD_LINEAR_KERNELS(t4_32)
INFERD_LINEAR_KERNELS(h4_64)

}  // namespace inferd::cuda
