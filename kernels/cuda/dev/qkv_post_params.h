// Parameters of the kernels of qkv_post.cu.
#pragma once

#include <cstdint>

namespace inferd::cuda {

/// QkvPostArgs; heads are counted through q, k and v. Grid: (tokens, groups of four heads).
struct QkvPostParams {
  float* qkv;
  std::int64_t qkv_stride;  // elements
  const float* q_norm;      // [head_dim] or null
  const float* k_norm;
  const float* k_shift;  // [num_kv_heads * head_dim] or null: what keys are kept without
  const float* rope;     // [T, rotary_dim / 2, 2] or null
  const float* second_rope;
  std::int64_t rope_stride;  // elements
  std::int64_t second_stride;
  const float* q_scale;       // [T] or null
  void* keys;                 // [block][kv head][block_size][head_dim], or null; q8_pages.cuh, fp8_pages.cuh
  void* values;               // likewise
  const std::int32_t* slots;  // [T]; < 0: a row of padding, of which nothing is kept
  std::int32_t element;       // of keys and values: KvStored
  std::int32_t block_size;
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t head_dim;
  std::int32_t first_head;  // heads before it stay as they are
  std::int32_t end_head;    // and those from here on
  std::int32_t rotary_dim;
  std::int32_t interleaved;
  float eps;
};

enum KvStored : std::int32_t { kKvF32 = 0, kKvF16 = 1, kKvBf16 = 2, kKvQ8 = 3, kKvFp8 = 4 };

}  // namespace inferd::cuda
