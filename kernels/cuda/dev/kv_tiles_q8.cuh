// Tiles of keys and values from q8_0 and fp8 pages. Their codes are copied as they are; each thread then widens the pieces that
// it copied itself, so no barrier stands between. An element becomes code * scale, rounded once, to f16: a code times a
// f16 scale has up to 18 bits, of which 11 stay, an error of an eighth of the half step that a code is off anyway.
#pragma once

#include "kernels/cuda/dev/fp8_pages.cuh"
#include "kernels/cuda/dev/kv_tiles.cuh"
#include "kernels/cuda/dev/q8_pages.cuh"

namespace inferd::cuda {

/// Four codes as f16, times scale.
__device__ inline uint2 widen_codes(std::uint32_t codes, __half2 scale) {
  const std::uint32_t raised = codes ^ 0x80808080u;  // code + 128; 0x64 before it makes 1024 + that, in f16
  const auto pair = [&](std::uint32_t selector) {
    const std::uint32_t bits = __byte_perm(raised, 0x64646464u, selector);
    const __half2 code = __hsub2(reinterpret_cast<const __half2&>(bits), __float2half2_rn(1152.0f));
    const __half2 value = __hmul2(code, scale);
    return reinterpret_cast<const std::uint32_t&>(value);
  };
  return make_uint2(pair(0x4140), pair(0x4342));
}

/// How 16 codes, a piece, become f16, and where the 4 bytes with their scale lie behind a page's codes. `piece` counts
/// through the page; of those 4 bytes the scale is the half that scale_half says.
struct Q8Codes {
  static constexpr __device__ int page_bytes(int rows, int head_dim) { return q8_page_bytes(rows, head_dim); }
  template <int kDim>
  static __device__ int scale_word(int piece) {
    return piece / 4 * 4;
  }
  static __device__ int scale_half(int, int piece_in_row) { return piece_in_row / 2 % 2; }
  static __device__ uint2 widen(std::uint32_t codes, __half2 scale) { return widen_codes(codes, scale); }
};
struct Fp8Codes {
  static constexpr __device__ int page_bytes(int rows, int head_dim) { return fp8_page_bytes(rows, head_dim); }
  template <int kDim>
  static __device__ int scale_word(int piece) {
    return piece / (kDim / 8) * 4;
  }
  static __device__ int scale_half(int row, int) { return row % 2; }
  static __device__ uint2 widen(std::uint32_t codes, __half2 scale) {
    const uint2 units = ptx::e4m3_to_f16(codes);
    const __half2 unit = __hmul2(scale, __float2half2_rn(ptx::kE4m3Unit));  // exact: kFp8LargestScale
    const __half2 low = __hmul2(reinterpret_cast<const __half2&>(units.x), unit);
    const __half2 high = __hmul2(reinterpret_cast<const __half2&>(units.y), unit);
    return make_uint2(reinterpret_cast<const std::uint32_t&>(low), reinterpret_cast<const std::uint32_t&>(high));
  }
};

/// A tile of keys (or values) as copied: for each piece of 16 codes these and, beside another, their scale.
template <int kDim>
struct Q8Staging {
  uint4 codes[kMmaKeys * kDim / 16];
  __half2 scales[kMmaKeys * kDim / 16];
};

/// A thread's pieces of a tile of keys (or values). Unrolled further, its loops take registers that attend_tiles lacks.
template <int kDim, typename Codes>
struct Q8Pieces {
  static constexpr int kRow = kDim / 16;                        // pieces of a row
  static constexpr int kCount = kMmaKeys * kRow / kMmaThreads;  // of a thread
  static constexpr int kStep = kMmaThreads / kRow;              // rows from one to the next
  static_assert(kRow == 4 || kRow == 8 || kRow == 16);

  const std::uint8_t* base;
  const std::int32_t* table;
  int num_kv_heads, kv_head;
  int end;  // keys there are

  __device__ Q8Pieces(const AttentionParams& p, const void* kv, const SequenceRows& s, int sequence, int kv_head)
      : base(static_cast<const std::uint8_t*>(kv)),
        table(p.block_tables + sequence * p.table_stride),
        num_kv_heads(p.num_kv_heads),
        kv_head(kv_head),
        end(s.context) {}

  /// The row of a thread's first piece: eight neighbours have rows and places that lie in different banks once widened.
  static __device__ int first_row(unsigned thread) {
    return kRow == 4 ? thread / 32 * 8 + thread / 4 % 2 * 4 + thread / 8 % 4 : thread / kRow;
  }

  /// Starts copying the keys [first, first + kMmaKeys), zeros from `end` on.
  __device__ void load(int first, Q8Staging<kDim>& to) const {
    const unsigned thread = ptx::recomputed(threadIdx.x);
    const int row = first_row(thread), piece = thread % kRow;
    const int first_page = first / kPageKeys + (kStep > kPageKeys ? row / kPageKeys : 0), last_page = (end - 1) / kPageKeys;
#pragma unroll 4
    for (int i = 0; i < kCount; ++i) {
      const std::int64_t block = table[min(first_page + i * kStep / kPageKeys, last_page)];
      const std::uint8_t* page = base + (block * num_kv_heads + kv_head) * Codes::page_bytes(kPageKeys, kDim);
      const int in_page = (row % kPageKeys + i * kStep % kPageKeys) * kRow + piece;
      const bool there = first + row + i * kStep < end;
      ptx::copy_16_async(to.codes + thread + i * kMmaThreads, page + in_page * 16, there ? 16 : 0);
      const std::uint8_t* scale = page + kPageKeys * kDim + Codes::template scale_word<kDim>(in_page);
      ptx::copy_4_async(to.scales + thread + i * kMmaThreads, scale, there ? 4 : 0);
    }
  }
  /// What this thread's copies brought, into SharedRows.
  __device__ void widen(const Q8Staging<kDim>& from, __half* to) const {
    const unsigned thread = ptx::recomputed(threadIdx.x);
    const int row = first_row(thread), piece = thread % kRow;
    const __half* scales = reinterpret_cast<const __half*>(from.scales + thread) + Codes::scale_half(row, piece);
    __half* low = to + SharedRows<kDim>::at(row, piece);
    __half* high = to + SharedRows<kDim>::at(row, piece + kRow);
#pragma unroll 2
    for (int i = 0; i < kCount; ++i) {
      const uint4 codes = from.codes[thread + i * kMmaThreads];
      const __half2 scale = __half2half2(scales[2 * i * kMmaThreads]);
      const auto store = [&](__half* at, std::uint32_t first, std::uint32_t second) {
        const uint2 a = Codes::widen(first, scale), b = Codes::widen(second, scale);
        ptx::store_4_shared(at + i * kStep * kDim, a.x, a.y, b.x, b.y);  // rows of one i lie alike: 8 divides kStep
      };
      store(low, codes.x, codes.y);
      store(high, codes.z, codes.w);
    }
  }
};

/// KvTiles of q8_0 or fp8 pages: keys and values share a tile of f16 and, where two do not fit beside it, the staging.
template <int kDim_, typename Codes = Q8Codes>
struct Q8Tiles {
  using Element = __half;
  static constexpr int kDim = kDim_;
  static constexpr bool kTwo = kTwoBuffers<kDim>;
  static constexpr int kElements = kMmaKeys * kDim + kv_buffers(kDim) * static_cast<int>(sizeof(Q8Staging<kDim>)) / 2;

  // The first and the last 8 codes of a piece lie half a row apart, so that stores of neighbours meet no bank twice.
  static __device__ constexpr int chunk_at(int place) { return place % (kDim / 16) * 2 + place / (kDim / 16); }

  Q8Pieces<kDim, Codes> key_pieces, value_pieces;
  Q8Staging<kDim> *key_staging, *value_staging;
  __half *keys, *values;

  __device__ Q8Tiles(const AttentionParams& p, const SequenceRows& s, int sequence, int kv_head, __half* shared)
      : key_pieces(p, p.keys, s, sequence, kv_head),
        value_pieces(p, p.values, s, sequence, kv_head),
        key_staging(reinterpret_cast<Q8Staging<kDim>*>(shared + kMmaKeys * kDim)),
        value_staging(key_staging + (kTwo ? 1 : 0)),
        keys(shared),
        values(shared) {}

  __device__ void start(int first) {
    key_pieces.load(first, *key_staging);
    ptx::copies_commit();
    if constexpr (kTwo) {
      value_pieces.load(first, *value_staging);
      ptx::copies_commit();
    }
  }
  __device__ void keys_ready(int first, bool more) {
    ptx::copies_wait<kTwo ? 1 : 0>();
    key_pieces.widen(*key_staging, keys);
    if constexpr (!kTwo) {
      value_pieces.load(first, *value_staging);
    } else if (more) {
      key_pieces.load(first + kMmaKeys, *key_staging);
    }
    ptx::copies_commit();
    __syncthreads();
  }
  __device__ void keys_used(int, bool) {}
  __device__ void values_ready(int first, bool more) {
    ptx::copies_wait<kTwo ? 1 : 0>();
    value_pieces.widen(*value_staging, values);
    if (more) {
      if constexpr (kTwo) {
        value_pieces.load(first + kMmaKeys, *value_staging);
      } else {
        key_pieces.load(first + kMmaKeys, *key_staging);
      }
    }
    ptx::copies_commit();
    __syncthreads();
  }
  __device__ void values_used(int, bool) {}
};

}  // namespace inferd::cuda
