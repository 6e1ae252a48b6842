// Attention on tensor cores over a cache of bf16. sm_75 has no such instruction and takes attention_fma.cu: empty there.
#include "kernels/cuda/dev/attention_mma_kernels.cuh"

namespace inferd::cuda {

#if __CUDA_ARCH__ >= 800
#define ATTEND(function, dim) function<KvTiles<__nv_bfloat16, dim>>(p)
#else
#define ATTEND(function, dim)
#endif
INFERD_ATTENTION_KERNELS(bf16, ATTEND)

}  // namespace inferd::cuda
