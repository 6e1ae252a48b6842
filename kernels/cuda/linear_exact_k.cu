// Exact linear kernels of K-quants.
#include "kernels/cuda/dev/linear_exact.cuh"

namespace inferd::cuda {

INFERD_LINEAR_EXACT(q2_k)
INFERD_LINEAR_EXACT(q3_k)
INFERD_LINEAR_EXACT(q4_k)
INFERD_LINEAR_EXACT(q5_k)
INFERD_LINEAR_EXACT(q6_k)

}  // namespace inferd::cuda
