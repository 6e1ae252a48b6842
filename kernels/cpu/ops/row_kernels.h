// RowKernels: the inner loops of the CPU operations, compiled once per instruction level, called through pointers.
#pragma once

#include <cstdint>

namespace inferd {

/// How keys and values are stored.
enum class KvElement : int { f32, f16, bf16, q8_0 };

/// One token of QkvPostArgs. Pointers to this token's data.
struct QkvPostRow {
  float* qkv = nullptr;  // [(num_heads + 2 num_kv_heads) * head_dim]
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  const float* q_norm = nullptr;   // [head_dim] or null
  const float* k_shift = nullptr;  // [num_kv_heads * head_dim] or absent: q8_0 caches keep keys less it
  const float* k_norm = nullptr;
  float norm_eps = 0.0f;
  const float* rope = nullptr;         // [rotary_dim / 2, 2] cos, sin, or null
  const float* second_rope = nullptr;  // likewise, for the elements after the first rotary_dim
  int rotary_dim = 0;
  bool interleaved = false;
  float q_scale = 1.0f;
  KvElement element = KvElement::f32;
  void* keys = nullptr;  // this token's slot in head 0; null: nothing is stored
  void* values = nullptr;
  int slot = 0;  // the token's place in its block
  int block_size = 16;
  std::int64_t head_stride = 0;  // elements (q8_0: bytes) from one kv head's slot to the next head's
  std::int64_t key_stride = 0;   // elements from one component of a key to the next: block_size
};

/// Where the keys and values of one kv head of one sequence lie.
/// Paged: key j is in block b = block_table[j / block_size] at offset o = j % block_size. On the CPU a block holds its
/// keys by component, [head_dim, block_size], so that scores of neighbouring keys come from one register; component d
/// is element b * block_stride + d * block_size + o. Values lie by key: b * block_stride + o * row_stride + d. Without
/// a table both lie by key, j * row_stride + d, and are f32. In q8_0 caches (head_dim a multiple of 32) elements and
/// block_stride are bytes, and scales follow a head's quants (level/kv_cursor.h).
struct KeySource {
  const void* keys = nullptr;  // at this head
  const void* values = nullptr;
  KvElement element = KvElement::f32;
  const std::int32_t* block_table = nullptr;
  int block_size = 16;  // a multiple of 16
  std::int64_t block_stride = 0;
  std::int64_t row_stride = 0;
};

/// One unit of attention: some consecutive queries of one sequence, some heads that share one kv head, and a stretch of
/// keys. Rows are (query, head) pairs, heads fastest.
struct AttentionTile {
  const float* q = nullptr;   // first query's first head; heads are head_dim apart
  std::int64_t q_stride = 0;  // floats from query to query
  int num_queries = 0;
  int num_heads = 0;                // num_queries * num_heads ≤ kMaxTileRows
  int head_dim = 0;                 // ≤ kMaxHeadDim
  std::int64_t first_position = 0;  // of the first query in its sequence
  bool causal = true;               // false: every query sees [0, num_keys)
  std::int64_t num_keys = 0;        // keys the sequence has
  std::int64_t prefix = 0;          // of these, first ones that every query sees
  std::int64_t window = 0;          // > 0: key j is seen by query i only if i - window < j
  float scale = 1.0f;
  float softcap = 0.0f;
  const float* alibi_slopes = nullptr;  // [num_heads] or null
  KeySource source;
  int first_partition = 0;  // partitions of kPartitionKeys keys to visit: [first, end)
  int end_partition = 0;
  KeySource next;  // what this worker reads after this tile: keys [next_first, next_end) are fetched meanwhile
  std::int64_t next_first = 0;
  std::int64_t next_end = 0;
  float* out = nullptr;  // [num_queries, num_heads, head_dim] by out_stride: softmax(…) v
  std::int64_t out_stride = 0;
  float* partial = nullptr;  // instead of out: [num_queries, num_heads, head_dim + 2]: maximum, sum, weighted values
  std::int64_t partial_query_stride = 0;  // floats from query to query
};

constexpr int kMaxTileRows = 32;
constexpr int kMaxHeadDim = 256;
/// Keys are visited in tiles of kTileKeys from position 0 on, softmax states are merged at multiples of kPartitionKeys:
/// so a query's result has one order of additions, however a prompt is chunked and work is shared out.
constexpr int kTileKeys = 64;
constexpr int kPartitionKeys = 256;

/// Pure functions of their arguments; no allocation, no state.
struct RowKernels {
  void (*rms_norm)(const float* x, const float* weight, const float* bias, float eps, std::int64_t columns, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, std::int64_t columns,
                     float* out);
  void (*qkv_post)(const QkvPostRow& row);
  void (*attention)(const AttentionTile& tile);
  /// Merges `count` partial states [head_dim + 2] lying `stride` floats apart, in order, into out [head_dim].
  void (*merge_partials)(const float* partials, std::int64_t stride, int count, int head_dim, float* out);
  /// out[r] = a[r] · x for each row of a [rank, columns].
  void (*shrink)(const float* x, const float* a, std::int64_t columns, std::int64_t rank, float* out);
  /// out[j] = sum over r of s[r] * b[r * stride + j], r ascending.
  void (*expand)(const float* s, const float* b, std::int64_t stride, std::int64_t rank, std::int64_t columns,
                 float* out);
  /// x[j] += sum of weights[i] * rows[i][j], i ascending.
  void (*add_weighted)(const float* const* rows, const float* weights, int count, std::int64_t columns, float* x);
  void (*exp)(const float* x, std::int64_t count, float* out);  // for tests: the exponential attention uses
};

}  // namespace inferd
