// Attention over one tile of queries: online softmax (arXiv:1805.02867) over key tiles. Level sources only.
#pragma once

#include "kernels/cpu/ops/level/attention_direct.h"
#include "kernels/cpu/ops/level/tile_scratch.h"
#include "kernels/cpu/ops/level/vec.h"
#include "kernels/cpu/ops/row_kernels.h"

// Every row (query, head) goes through the same additions whatever rows share its tile: scores add over d ascending,
// values over keys ascending, tiles and partitions from position 0. A tile in which a row sees nothing leaves it
// untouched.

namespace inferd {
namespace {

constexpr float kMinusInfinity = -__builtin_inff();

/// scores[rows, columns * kVec keys] = q k^T, one register per (row, key vector).
template <int kRows, int kColumns>
inline void score_block(const float* q, std::int64_t q_stride, const float* keys, int dim, float* scores) {
  Vec sums[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = v_set(0.0f);
  }
  for (int d = 0; d < dim; ++d) {
    Vec key[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) key[c] = v_load(keys + static_cast<std::int64_t>(d) * kTileKeys + c * kVec);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec x = v_set(q[r * q_stride + d]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = v_fma(x, key[c], sums[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) v_store(scores + r * kTileKeys + c * kVec, sums[r][c]);
  }
}

// Registers allow 4 x 4 accumulators at 32 registers, 4 x 2 at 16.
constexpr int kBlockColumns = kVec == 16 ? 4 : 2;

inline void score_tile(TileScratch& s, int rows, int count, int dim, std::int64_t q_stride, float* scores) {
  const int vectors = (count + kVec - 1) / kVec;
  int c = 0;
  for (; c + kBlockColumns <= vectors; c += kBlockColumns) {
    int r = 0;
    s.next.step();
    for (; r + 4 <= rows; r += 4) {
      s.next.step();
      score_block<4, kBlockColumns>(s.q + r * q_stride, q_stride, s.keys + c * kVec, dim,
                                    scores + r * kTileKeys + c * kVec);
    }
    for (; r < rows; ++r) {
      s.next.step();
      score_block<1, kBlockColumns>(s.q + r * q_stride, q_stride, s.keys + c * kVec, dim,
                                    scores + r * kTileKeys + c * kVec);
    }
  }
  for (; c < vectors; ++c) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
      score_block<4, 1>(s.q + r * q_stride, q_stride, s.keys + c * kVec, dim, scores + r * kTileKeys + c * kVec);
    }
    for (; r < rows; ++r) {
      score_block<1, 1>(s.q + r * q_stride, q_stride, s.keys + c * kVec, dim, scores + r * kTileKeys + c * kVec);
    }
  }
}

inline float exp_scalar(float x) { return v_first(v_exp(v_set(x))); }

/// c tanh(x / c) with tanh(y) = 1 - 2 / (e^2y + 1).
inline Vec soft_cap(Vec x, float cap) {
  const Vec one = v_set(1.0f);
  const Vec e = v_exp(v_div(v_add(x, x), v_set(cap)));
  return v_mul(v_set(cap), v_sub(one, v_div(v_set(2.0f), v_add(e, one))));
}

inline void multiply_row(float* row, float factor, int padded) {
  for (int d = 0; d < padded; d += kVec) v_store(row + d, v_mul(v_load(row + d), v_set(factor)));
}

/// Turns one row's scores into weights and brings its state up to date.
void softmax_row(const AttentionTile& tile, TileScratch& s, int row, std::int64_t first_key, int padded) {
  const int low = s.low[row], high = s.high[row];
  if (low >= high) return;
  float* scores = s.scores + row * kTileKeys;
  const int begin = low / kVec * kVec;
  Vec maximum = v_set(kMinusInfinity);
  for (int at = begin; at < high; at += kVec) {
    Vec x = v_mul(v_load(scores + at), v_set(tile.scale));
    if (tile.softcap > 0.0f) x = soft_cap(x, tile.softcap);
    if (tile.alibi_slopes != nullptr) {
      const std::int64_t query = tile.first_position + row / tile.num_heads;
      float distance[kVec];
      for (int i = 0; i < kVec; ++i) distance[i] = static_cast<float>(query - (first_key + at + i));
      x = v_fma(v_set(-tile.alibi_slopes[row % tile.num_heads]), v_load(distance), x);
    }
    if (at < low || at + kVec > high) x = v_keep_range(x, low - at, high - at, v_set(kMinusInfinity));
    v_store(scores + at, x);
    maximum = v_max(maximum, x);
  }
  RowState& state = s.current_state[row];
  const float tile_maximum = v_lane_max(maximum);
  if (tile_maximum > state.maximum) {
    const float correction = exp_scalar(state.maximum - tile_maximum);
    state.sum *= correction;
    multiply_row(s.current + static_cast<std::int64_t>(row) * padded, correction, padded);
    state.maximum = tile_maximum;
  }
  Vec sum = v_set(0.0f);
  for (int at = begin; at < high; at += kVec) {
    const Vec weight = v_exp(v_sub(v_load(scores + at), v_set(state.maximum)));
    v_store(scores + at, weight);
    sum = v_add(sum, weight);
  }
  state.sum += v_sum(sum);
}

/// out[rows, columns * kVec] += weights[rows, keys low … high) * values.
template <int kRows, int kColumns>
inline void value_block(const float* weights, const float* values, int low, int high, int padded, float* out) {
  Vec sums[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = v_load(out + static_cast<std::int64_t>(r) * padded + c * kVec);
  }
  for (int key = low; key < high; ++key) {
    Vec value[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) value[c] = v_load(values + static_cast<std::int64_t>(key) * padded + c * kVec);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Vec weight = v_set(weights[r * kTileKeys + key]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = v_fma(weight, value[c], sums[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) v_store(out + static_cast<std::int64_t>(r) * padded + c * kVec, sums[r][c]);
  }
}

template <int kRows>
inline void value_rows(TileScratch& s, int row, int low, int high, int padded) {
  const float* weights = s.scores + row * kTileKeys;
  float* out = s.current + static_cast<std::int64_t>(row) * padded;
  int d = 0;
  for (; d + kBlockColumns * kVec <= padded; d += kBlockColumns * kVec) {
    value_block<kRows, kBlockColumns>(weights, s.values + d, low, high, padded, out + d);
  }
  for (; d < padded; d += kVec) value_block<kRows, 1>(weights, s.values + d, low, high, padded, out + d);
}

/// Adds the tile's weighted values to every row. Masked keys are skipped, not multiplied by 0: they may hold anything.
void value_tile(TileScratch& s, int rows, int padded) {
  int row = 0;
  for (; row + 4 <= rows; row += 4) {
    int high = s.high[row];
    bool equal_low = true;
    for (int r = 1; r < 4; ++r) {
      equal_low = equal_low && s.low[row + r] == s.low[row];
      high = s.high[row + r] < high ? s.high[row + r] : high;
    }
    int common = s.low[row];
    if (equal_low && high > common) {
      value_rows<4>(s, row, common, high, padded);
      common = high;
    }
    for (int r = 0; r < 4; ++r) {
      const int low = equal_low ? common : s.low[row + r];
      if (low < s.high[row + r]) value_rows<1>(s, row + r, low, s.high[row + r], padded);
    }
    s.next.step();
  }
  for (; row < rows; ++row) {
    s.next.step();
    if (s.low[row] < s.high[row]) value_rows<1>(s, row, s.low[row], s.high[row], padded);
  }
}

/// total += current, both weighted relative to their own maxima.
inline void merge_state(RowState& total, float* total_values, const RowState& current, const float* current_values,
                        int padded) {
  if (current.maximum == kMinusInfinity && current.sum == 0.0f) return;
  const float maximum = current.maximum > total.maximum ? current.maximum : total.maximum;
  const Vec old_factor = v_set(exp_scalar(total.maximum - maximum));
  const Vec new_factor = v_set(exp_scalar(current.maximum - maximum));
  total.sum = total.sum * v_first(old_factor) + current.sum * v_first(new_factor);
  total.maximum = maximum;
  for (int d = 0; d < padded; d += kVec) {
    const Vec scaled = v_mul(v_load(total_values + d), old_factor);
    v_store(total_values + d, v_fma(v_load(current_values + d), new_factor, scaled));
  }
}

/// Which keys of the tile each row sees.
inline void set_visible(const AttentionTile& tile, TileScratch& s, int rows, std::int64_t first_key, int count) {
  for (int row = 0; row < rows; ++row) {
    s.low[row] = 0;
    s.high[row] = count;
    if (!tile.causal) continue;
    const std::int64_t query = tile.first_position + row / tile.num_heads;
    const std::int64_t high = (query < tile.prefix ? tile.prefix : query + 1) - first_key;
    const std::int64_t low = tile.window > 0 ? query + 1 - tile.window - first_key : 0;
    s.high[row] = static_cast<int>(high < 0 ? 0 : high > count ? count : high);
    s.low[row] = static_cast<int>(low < 0 ? 0 : low > count ? count : low);
  }
}

/// Adds keys [begin, end) to the current state. Keys below `limit` will be visited by this call or the next.
template <typename T>
void run_partition(const AttentionTile& tile, TileScratch& s, int rows, int padded, std::int64_t begin,
                   std::int64_t end, std::int64_t limit) {
  for (std::int64_t first = begin; first < end; first += kTileKeys) {
    const int count = static_cast<int>(end - first < kTileKeys ? end - first : kTileKeys);
    set_visible(tile, s, rows, first, count);
    bool any = false;
    for (int row = 0; row < rows; ++row) any = any || s.low[row] < s.high[row];
    if (!any) continue;
    // One query: all rows see the same keys, too few of them to be worth a widened copy of the tile.
    const bool direct = tile.source.block_table != nullptr && tile.num_queries == 1 && padded == tile.head_dim;
    if (tile.source.block_table != nullptr && first + kTileKeys < limit) {
      const std::int64_t next_end = first + 2 * kTileKeys < limit ? first + 2 * kTileKeys : limit;
      // Steps: each group of keys, of values, and rows in the stages after.
      const int steps = direct ? direct_steps(rows, padded) : 2 * kTileKeys / kVec + 2 * rows;
      s.next.start<T>(tile.source, first + kTileKeys, next_end, tile.head_dim, steps);
    } else if (tile.next_end > tile.next_first) {
      const std::int64_t next_end =
          tile.next_first + kTileKeys < tile.next_end ? tile.next_first + kTileKeys : tile.next_end;
      s.next.start<T>(tile.next, tile.next_first, next_end, tile.head_dim,
                      direct ? direct_steps(rows, padded) : 2 * rows);
    } else {
      s.next.stop();
    }
    if (direct) {
      score_direct<T>(tile.source, first, count, padded, rows, s);
      for (int row = 0; row < rows; ++row) softmax_row(tile, s, row, first, padded);
      value_direct<T>(tile.source, first, s.low[0], s.high[0], padded, rows, s);
      continue;
    }
    load_tile<T>(tile.source, first, count, tile.head_dim, padded, s);
    score_tile(s, rows, count, tile.head_dim, padded, s.scores);
    for (int row = 0; row < rows; ++row) {
      s.next.step();
      softmax_row(tile, s, row, first, padded);
    }
    value_tile(s, rows, padded);
  }
}

inline void reset_rows(RowState* states, float* values, int rows, int padded) {
  for (int row = 0; row < rows; ++row) states[row] = {kMinusInfinity, 0.0f};
  std::memset(values, 0, static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded) * sizeof(float));
}

void finish_row(const float* values, float sum, int dim, float* out) {
  int d = 0;
  for (; d + kVec <= dim; d += kVec) v_store(out + d, v_div(v_load(values + d), v_set(sum)));
  if (d < dim) v_store_first(out + d, v_div(v_load(values + d), v_set(sum)), dim - d);
}

void attention_tile(const AttentionTile& tile) {
  TileScratch s;
  const int rows = tile.num_queries * tile.num_heads;
  const int dim = tile.head_dim;
  const int padded = (dim + kVec - 1) / kVec * kVec;
  for (int row = 0; row < rows; ++row) {
    const float* q = tile.q + row / tile.num_heads * tile.q_stride + row % tile.num_heads * dim;
    std::memcpy(s.q + static_cast<std::int64_t>(row) * padded, q, static_cast<std::size_t>(dim) * sizeof(float));
  }
  reset_rows(s.total_state, s.total, rows, padded);
  // Beyond the last query's position nothing is visible.
  const std::int64_t causal_end = tile.first_position + tile.num_queries;
  const std::int64_t last = causal_end < tile.prefix ? tile.prefix : causal_end;
  const std::int64_t keys = tile.causal && last < tile.num_keys ? last : tile.num_keys;
  const std::int64_t last_key = static_cast<std::int64_t>(tile.end_partition) * kPartitionKeys;
  const std::int64_t limit = last_key < keys ? last_key : keys;
  for (int partition = tile.first_partition; partition < tile.end_partition; ++partition) {
    const std::int64_t begin = static_cast<std::int64_t>(partition) * kPartitionKeys;
    const std::int64_t end = begin + kPartitionKeys < keys ? begin + kPartitionKeys : keys;
    reset_rows(s.current_state, s.current, rows, padded);
    switch (tile.source.element) {
      case KvElement::f32:
        run_partition<float>(tile, s, rows, padded, begin, end, limit);
        break;
      case KvElement::f16:
        run_partition<Half>(tile, s, rows, padded, begin, end, limit);
        break;
      case KvElement::bf16:
        run_partition<Bfloat>(tile, s, rows, padded, begin, end, limit);
        break;
      case KvElement::q8_0:
        run_partition<Q8>(tile, s, rows, padded, begin, end, limit);
        break;
    }
    for (int row = 0; row < rows; ++row) {
      merge_state(s.total_state[row], s.total + static_cast<std::int64_t>(row) * padded, s.current_state[row],
                  s.current + static_cast<std::int64_t>(row) * padded, padded);
    }
  }
  for (int row = 0; row < rows; ++row) {
    const int query = row / tile.num_heads, head = row % tile.num_heads;
    const float* values = s.total + static_cast<std::int64_t>(row) * padded;
    if (tile.partial != nullptr) {
      float* out = tile.partial + query * tile.partial_query_stride + static_cast<std::int64_t>(head) * (dim + 2);
      out[0] = s.total_state[row].maximum;
      out[1] = s.total_state[row].sum;
      std::memcpy(out + 2, values, static_cast<std::size_t>(dim) * sizeof(float));
    } else {
      finish_row(values, s.total_state[row].sum, dim,
                 tile.out + query * tile.out_stride + static_cast<std::int64_t>(head) * dim);
    }
  }
}

/// The states of single partitions, merged in the order attention_tile merges them.
void merge_partials(const float* partials, std::int64_t stride, int count, int head_dim, float* out) {
  alignas(64) float total[kPaddedDim];
  alignas(64) float current[kPaddedDim];
  const int padded = (head_dim + kVec - 1) / kVec * kVec;
  RowState state;
  reset_rows(&state, total, 1, padded);
  std::memset(current, 0, sizeof current);
  for (int i = 0; i < count; ++i) {
    const float* partial = partials + i * stride;
    std::memcpy(current, partial + 2, static_cast<std::size_t>(head_dim) * sizeof(float));
    merge_state(state, total, {partial[0], partial[1]}, current, padded);
  }
  finish_row(total, state.sum, head_dim, out);
}

}  // namespace
}  // namespace inferd
