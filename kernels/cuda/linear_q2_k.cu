// Linear layers of q2_k weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q2_k)

}  // namespace inferd::cuda
