// The tensor-core attention kernels of one type of cache, one pair a head size.
#pragma once

#include "kernels/cuda/dev/attention_mma.cuh"

// attend(function, dim) is a kernel's body. Last two: blocks an SM should hold, which bounds the registers.
#define INFERD_ATTENTION_PAIR(type, attend, dim, tile_blocks, span_blocks)                                 \
  extern "C" __global__ void __launch_bounds__(kMmaThreads, tile_blocks)                     \
      attention_tiles_##type##_##dim(const __grid_constant__ AttentionParams p) {            \
    attend(attend_tiles, dim);                                                                             \
  }                                                                                                        \
  extern "C" __global__ void __launch_bounds__(kMmaThreads, span_blocks)                     \
      attention_spans_##type##_##dim(const __grid_constant__ AttentionParams p) {            \
    attend(attend_spans, dim);                                                                             \
  }

#define INFERD_ATTENTION_KERNELS(type, attend)        \
  INFERD_ATTENTION_PAIR(type, attend, 64, 2, 5)       \
  INFERD_ATTENTION_PAIR(type, attend, 80, 2, 5)       \
  INFERD_ATTENTION_PAIR(type, attend, 96, 2, 5)       \
  INFERD_ATTENTION_PAIR(type, attend, 128, 2, 4)      \
  INFERD_ATTENTION_PAIR(type, attend, 256, 2, 3)
