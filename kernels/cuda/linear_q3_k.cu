// Linear layers of q3_k weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q3_k)

}  // namespace inferd::cuda
