// Exact linear kernels of matrices quantised by groups of columns.
#include "kernels/cuda/dev/linear_exact.cuh"

namespace inferd::cuda {

INFERD_LINEAR_EXACT(g2_32)
INFERD_LINEAR_EXACT(g2_64)
INFERD_LINEAR_EXACT(g3_32)
INFERD_LINEAR_EXACT(g3_64)
INFERD_LINEAR_EXACT(g4_32)
INFERD_LINEAR_EXACT(g4_64)
INFERD_LINEAR_EXACT(g8_32)
INFERD_LINEAR_EXACT(g8_64)

}  // namespace inferd::cuda
