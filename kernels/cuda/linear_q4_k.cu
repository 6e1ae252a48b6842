// Linear layers of q4_k weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q4_k)

}  // namespace inferd::cuda
