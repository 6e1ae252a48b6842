// Linear layers of iq4_xs weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(iq4_xs)

}  // namespace inferd::cuda
