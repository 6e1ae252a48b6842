// Exact linear kernels of plain weights.
#include "kernels/cuda/dev/linear_exact.cuh"

namespace inferd::cuda {

INFERD_LINEAR_EXACT(f32)
INFERD_LINEAR_EXACT(f16)
INFERD_LINEAR_EXACT(bf16)

}  // namespace inferd::cuda
