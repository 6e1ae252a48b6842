// Linear layers of narrow K-quant weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q2_k)
INFERD_LINEAR_KERNELS(q3_k)
INFERD_LINEAR_KERNELS(q4_k)

}  // namespace inferd::cuda
