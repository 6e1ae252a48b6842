// Attention on tensor cores over a cache of q8_0, in f16.
#include "kernels/cuda/dev/attention_mma_kernels.cuh"
#include "kernels/cuda/dev/kv_tiles_q8.cuh"

namespace inferd::cuda {

#define ATTEND(function, dim) function<Q8Tiles<dim>>(p)
INFERD_ATTENTION_PAIR(q8_0, ATTEND, 64, 2, 5)
INFERD_ATTENTION_PAIR(q8_0, ATTEND, 128, 2, 4)
INFERD_ATTENTION_PAIR(q8_0, ATTEND, 256, 2, 3)

}  // namespace inferd::cuda
