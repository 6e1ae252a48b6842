// Linear layers of f16 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(f16)

}  // namespace inferd::cuda
