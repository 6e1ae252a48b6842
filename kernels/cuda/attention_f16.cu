// Attention on tensor cores over a cache of f16.
#include "kernels/cuda/dev/attention_mma_kernels.cuh"

namespace inferd::cuda {

#define ATTEND(function, dim) function<KvTiles<__half, dim>>(p)
INFERD_ATTENTION_KERNELS(f16, ATTEND)

}  // namespace inferd::cuda
