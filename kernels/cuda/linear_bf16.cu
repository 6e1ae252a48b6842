// Linear layers of bf16 weights.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(bf16)

}  // namespace inferd::cuda
