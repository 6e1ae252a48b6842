// Linear layers of q6_k weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q6_k)

}  // namespace inferd::cuda
