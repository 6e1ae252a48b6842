// Linear layers of iq4_nl weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(iq4_nl)

}  // namespace inferd::cuda
