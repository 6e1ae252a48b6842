// Attention on tensor cores over a cache of fp8, in f16.
#include "kernels/cuda/dev/attention_mma_kernels.cuh"
#include "kernels/cuda/dev/kv_tiles_q8.cuh"

namespace inferd::cuda {

#define ATTEND(function, dim) function<Q8Tiles<dim, Fp8Codes>>(p)
INFERD_ATTENTION_PAIR(fp8, ATTEND, 64, 2, 5)
INFERD_ATTENTION_PAIR(fp8, ATTEND, 128, 2, 4)
INFERD_ATTENTION_PAIR(fp8, ATTEND, 256, 2, 3)

}  // namespace inferd::cuda
