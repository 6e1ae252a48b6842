// Exact linear kernels of blocks of 32 columns.
#include "kernels/cuda/dev/linear_exact.cuh"

namespace inferd::cuda {

INFERD_LINEAR_EXACT(q8_0)
INFERD_LINEAR_EXACT(q4_0)
INFERD_LINEAR_EXACT(q4_1)
INFERD_LINEAR_EXACT(q5_0)
INFERD_LINEAR_EXACT(q5_1)
INFERD_LINEAR_EXACT(iq4_nl)
INFERD_LINEAR_EXACT(iq4_xs)
INFERD_LINEAR_EXACT(t4_16)
INFERD_LINEAR_EXACT(t4_32)
INFERD_LINEAR_EXACT(h4_64)

}  // namespace inferd::cuda
