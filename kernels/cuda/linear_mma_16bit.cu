// Linear layers of 16-bit weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(f16)
INFERD_LINEAR_KERNELS(bf16)

}  // namespace inferd::cuda
