// Keys and values of a block, 64 at a time, on their way from their pages into shared memory.
#pragma once

#include "kernels/cuda/dev/attention.cuh"

namespace inferd::cuda {

/// Rows of kDim 16-bit elements in shared memory, in chunks of 16 bytes. An exclusive or puts the same chunk of eight
/// rows into different banks, and leaves stretches of eight chunks where they are.
template <int kDim>
struct SharedRows {
  static constexpr int kChunks = kDim / 8;
  static __device__ int at(int row, int chunk) {
    const int swizzle = kChunks % 8 == 0 ? row & 7 : kChunks % 4 == 0 ? row >> 1 & 3 : row >> 2 & 1;
    return row * kDim + (chunk ^ swizzle) * 8;
  }
};

template <int kDim>
constexpr bool kTwoBuffers = kv_buffers(kDim) == 2;

/// Pages of one kv head's keys (or values) and sequence.
template <typename T, int kDim>
struct KvPages {
  const T* base;
  const std::int32_t* table;
  int block_elements;
  int end;  // keys there are

  __device__ KvPages(const AttentionParams& p, const void* kv, const SequenceRows& s, int sequence, int kv_head)
      : base(static_cast<const T*>(kv) + kv_head * kPageKeys * kDim),
        table(p.block_tables + sequence * p.table_stride),
        block_elements(p.num_kv_heads * kPageKeys * kDim),
        end(s.context) {}

  /// Starts copying the keys [first, first + kMmaKeys), zeros from `end` on.
  __device__ void load(int first, T* to) const {
    constexpr int kChunks = kDim / 8, kPageChunks = kPageKeys * kChunks;
    const unsigned thread = ptx::recomputed(threadIdx.x);
#pragma unroll ptx::kAsyncCopies ? kMmaKeys / kPageKeys : 1
    for (int page = 0; page < kMmaKeys / kPageKeys; ++page) {
      const int key = first + page * kPageKeys, left = end - key;
      const T* from = base + static_cast<std::int64_t>(table[min(key, end - 1) / kPageKeys]) * block_elements;
#pragma unroll
      for (int i = 0; i < kPageChunks; i += kMmaThreads) {
        const unsigned at = thread + i;
        if (kPageChunks % kMmaThreads != 0 && at >= kPageChunks) break;
        const int row = at / kChunks;
        ptx::copy_16_async(to + SharedRows<kDim>::at(page * kPageKeys + row, at % kChunks), from + at * 8,
                           row < left ? 16 : 0);
      }
    }
  }
};

/// A block's tiles of keys and values. Where both fit beside the queries (kTwoBuffers) each is copied while the other is
/// used; else they take turns in one buffer. Of a tile that starts at `first`, in this order: keys_ready, its keys are
/// used, a barrier, keys_used, values_ready, its values are used, a barrier, values_used. `more`: another tile follows.
template <typename T, int kDim_>
struct KvTiles {
  using Element = T;
  static constexpr int kDim = kDim_;
  static constexpr bool kTwo = kTwoBuffers<kDim>;
  static constexpr int kElements = kv_buffers(kDim) * kMmaKeys * kDim;  // of shared memory

  /// Which eight elements of a head are the `place`th of a row in shared memory, queries' too.
  static __device__ constexpr int chunk_at(int place) { return place; }

  KvPages<T, kDim> key_pages, value_pages;
  T* keys;    // [kMmaKeys] SharedRows
  T* values;  // likewise

  __device__ KvTiles(const AttentionParams& p, const SequenceRows& s, int sequence, int kv_head, T* shared)
      : key_pages(p, p.keys, s, sequence, kv_head),
        value_pages(p, p.values, s, sequence, kv_head),
        keys(shared),
        values(shared + (kTwo ? kMmaKeys * kDim : 0)) {}

  __device__ void start(int first) {
    key_pages.load(first, keys);
    ptx::copies_commit();
    if constexpr (kTwo) {
      value_pages.load(first, values);
      ptx::copies_commit();
    }
  }
  __device__ void keys_ready(int, bool) {
    ptx::copies_wait<kTwo ? 1 : 0>();
    __syncthreads();
  }
  __device__ void keys_used(int first, bool more) {
    if constexpr (!kTwo) {
      value_pages.load(first, values);
    } else if (more) {
      key_pages.load(first + kMmaKeys, keys);
    }
    ptx::copies_commit();
  }
  __device__ void values_ready(int, bool) {
    ptx::copies_wait<kTwo ? 1 : 0>();
    __syncthreads();
  }
  __device__ void values_used(int first, bool more) {
    if (more) {
      if constexpr (kTwo) {
        value_pages.load(first + kMmaKeys, values);
      } else {
        key_pages.load(first + kMmaKeys, keys);
      }
    }
    ptx::copies_commit();
  }
};

}  // namespace inferd::cuda
