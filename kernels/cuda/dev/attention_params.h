// Parameters of the attention kernels.
#pragma once

#include <cstdint>

namespace inferd::cuda {

/// Keys are summed in spans of this many absolute positions; spans are merged in ascending order.
inline constexpr int kSpanKeys = 256;
inline constexpr int kPageKeys = 16;
inline constexpr int kMaxHeadDim = 256;
inline constexpr float kLog2E = 1.4426950408889634f;

// A block of attention_fma.cu: rows of one kv head and sequence, and keys at a time.
inline constexpr int kFmaRows = 16;
inline constexpr int kFmaKeys = 32;
/// Floats of its shared memory: queries and a tile of keys or values, 4 floats apart, and the weights of both.
constexpr int fma_shared_floats(int head_dim) {
  return (kFmaRows + kFmaKeys) * (head_dim + 4) + kFmaRows * (kFmaKeys + 4);
}

/// Rows of the kernels are (token, head of a kv head's group) pairs of one sequence, heads fastest.
struct AttentionParams {
  const float* q;  // [T, q_stride], q heads first
  std::int64_t q_stride;
  // [blocks][kv_heads][kPageKeys][head_dim], q8_0: q8_pages.cuh, fp8: fp8_pages.cuh; encoders: f32, first key of the
  // first token
  const void* keys;
  const void* values;                // likewise
  std::int64_t kv_stride;            // encoders: elements between the keys of two tokens
  const std::int32_t* query_starts;  // [S + 1]
  const std::int32_t* context_lens;  // [S]; not read by encoders, nor are the next two
  const std::int32_t* block_tables;  // [S, table_stride]
  const std::int32_t* prefix_lens;   // [S] or null
  std::int64_t table_stride;
  const float* alibi_slopes;  // [num_heads] or null
  float* out;                 // [T, out_stride]
  std::int64_t out_stride;
  float* partial_values;  // [S * split_queries, spans, num_heads, head_dim]: sums of one span, not divided
  float* partial_states;  // [S * split_queries, spans, num_heads, 2]: base-2 maximum, sum of weights
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t head_dim;
  std::int32_t spans;
  std::int32_t window;         // 0: all
  std::int32_t split_queries;  // sequences of at most so many queries go by spans into the partials
  std::int32_t split;          // which sequences this launch is for
  float score_scale;           // of q k: scale * log2(e), or 2 log2(e) scale / softcap
  float cap;                   // softcap * log2(e), or 0
};

// Tiles of the tensor-core kernels (attention_mma.cuh).
inline constexpr int kMmaKeys = 64;
inline constexpr int kMmaRows = 16;
inline constexpr int kMmaWarps = 4;
inline constexpr int kMmaThreads = kMmaWarps * 32;

/// Query rows of an attend_tiles block: as wide heads' sums fit the registers.
constexpr int tile_rows(int head_dim, int arch) {
  if (arch < 80) return head_dim > 128 ? 16 : head_dim > 96 ? 32 : 64;
  return head_dim > 128 ? 32 : 64;
}
/// Keys and values share a buffer where two do not fit beside the queries.
constexpr int kv_buffers(int head_dim) { return head_dim <= 128 ? 2 : 1; }
/// q8_0 and fp8 pages (q8): such a buffer holds codes, and for each 16 of them 4 bytes with their scale; one tile of
/// f16 is made of whichever comes next.
constexpr int q8_staging_bytes(int head_dim) { return kMmaKeys * head_dim / 16 * 20; }
constexpr int kv_shared_bytes(int head_dim, bool q8) {
  const int tile = kMmaKeys * head_dim * 2;
  return q8 ? tile + kv_buffers(head_dim) * q8_staging_bytes(head_dim) : kv_buffers(head_dim) * tile;
}
constexpr int mma_shared_bytes(int head_dim, int rows, bool q8) {
  const int scales = 8 * rows;
  return rows * head_dim * 2 + kv_shared_bytes(head_dim, q8) + scales;
}
/// Dynamic shared memory of attend_tiles and attend_spans. The latter exchange weights and maxima there.
constexpr int tiles_shared_bytes(int head_dim, bool q8, int arch) {
  return mma_shared_bytes(head_dim, tile_rows(head_dim, arch), q8);
}
constexpr int spans_shared_bytes(int head_dim, bool q8) {
  return mma_shared_bytes(head_dim, kMmaRows, q8) + kMmaRows * kMmaKeys * 2 + kMmaWarps * kMmaRows * 4;
}

}  // namespace inferd::cuda
