// Linear layers of q5_k weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q5_k)

}  // namespace inferd::cuda
