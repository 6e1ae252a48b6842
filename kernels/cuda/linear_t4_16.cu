// Linear layers of t4_16 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(t4_16)

}  // namespace inferd::cuda
