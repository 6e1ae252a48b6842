// Linear layers of wide K-quant weights on tensor cores.
#include "kernels/cuda/dev/linear_mma.cuh"

namespace inferd::cuda {

INFERD_LINEAR_KERNELS(q5_k)
INFERD_LINEAR_KERNELS(q6_k)

}  // namespace inferd::cuda
