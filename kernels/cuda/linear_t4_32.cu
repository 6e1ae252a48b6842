// Linear layers of t4_32 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(t4_32)

}  // namespace inferd::cuda
