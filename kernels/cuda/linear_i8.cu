// Linear layers of int8 weights with one scale a row and int8 activations, on tensor cores.
#include "kernels/cuda/dev/linear_i8.cuh"

namespace inferd::cuda {

INFERD_LINEAR_I8_KERNEL(8, 0)
INFERD_LINEAR_I8_KERNEL(16, 1)
INFERD_LINEAR_I8_KERNEL(32, 2)
INFERD_LINEAR_I8_KERNEL(64, 3)
INFERD_LINEAR_I8_KERNEL(prefill, 4)

}  // namespace inferd::cuda
