// Attention on tensor cores over a cache of bf16. sm_75 has no such instruction and takes attention_fma.cu: empty there.
#include "kernels/cuda/dev/attention_mma.cuh"

namespace inferd::cuda {

#if __CUDA_ARCH__ >= 800
#define ATTEND(function, dim) function<__nv_bfloat16, dim>(p)
#else
#define ATTEND(function, dim)
#endif

#define KERNELS(dim, tile_blocks, span_blocks)                                                            \
  extern "C" __global__ void __launch_bounds__(kMmaThreads, tile_blocks)                                  \
      attention_tiles_bf16_##dim(const __grid_constant__ AttentionParams p) {                                \
    ATTEND(attend_tiles, dim);                                                                            \
  }                                                                                                       \
  extern "C" __global__ void __launch_bounds__(kMmaThreads, span_blocks)                                  \
      attention_spans_bf16_##dim(const __grid_constant__ AttentionParams p) {                                \
    ATTEND(attend_spans, dim);                                                                            \
  }

// Second and third: blocks an SM should hold, which bounds the registers.
KERNELS(64, 2, 5)
KERNELS(80, 2, 5)
KERNELS(96, 2, 5)
KERNELS(128, 2, 4)
KERNELS(256, 2, 3)

}  // namespace inferd::cuda
