// One tile of attention as a worker sees it: its scratch, and the loading of keys and values. Level sources only.
#pragma once

#include "kernels/cpu/ops/level/kv_cursor.h"
#include "kernels/cpu/ops/level/vec.h"
#include "kernels/cpu/ops/row_kernels.h"

namespace inferd {
namespace {

constexpr int kPaddedDim = (kMaxHeadDim + 15) / 16 * 16;

/// Softmax so far: values are weighted by e^(score - maximum).
struct RowState {
  float maximum;
  float sum;
};

/// Asks for the memory of the next tile a few lines at a time, between pieces of work on this one: blocks are
/// scattered, so the hardware does not see them coming, and asking for all at once would stall the core.
class NextTile {
 public:
  /// Lines of keys [first, end), paged; nothing for an empty range. They are asked for in about `steps` steps.
  template <typename T>
  void start(const KeySource& source, std::int64_t first, std::int64_t end, int dim, int steps) {
    count_ = 0;
    next_ = 0;
    lines_ = (head_block_bytes<T>(source.block_size, dim) + kLineBytes - 1) / kLineBytes;
    for (std::int64_t key = first; key < end; key += source.block_size) {
      const std::int64_t at = source.block_table[key / source.block_size] * source.block_stride;
      parts_[count_++] = reinterpret_cast<const char*>(static_cast<const T*>(source.keys) + at);
      parts_[count_++] = reinterpret_cast<const char*>(static_cast<const T*>(source.values) + at);
    }
    step_ = (lines_ * count_ + steps - 1) / steps;
  }
  void stop() { count_ = 0; }
  void step() {
    if (count_ == 0) return;
    for (std::int64_t i = 0; i < step_; ++i) {
      __builtin_prefetch(parts_[count_ - 1] + next_ * kLineBytes);
      if (++next_ < lines_) continue;
      next_ = 0;
      if (--count_ == 0) return;
    }
  }

 private:
  static constexpr std::int64_t kLineBytes = 64;
  const char* parts_[2 * kTileKeys / 16];  // keys and values of blocks, taken from the end
  int count_ = 0;
  std::int64_t next_ = 0;   // line of the part at the end
  std::int64_t lines_ = 0;  // of a part
  std::int64_t step_ = 0;
};

/// Everything one tile needs, on the worker's stack (about 230 KiB).
struct TileScratch {
  alignas(64) float q[kMaxTileRows * kPaddedDim];
  alignas(64) float keys[kPaddedDim * kTileKeys];    // transposed: [head_dim, kTileKeys]
  alignas(64) float values[kTileKeys * kPaddedDim];  // [kTileKeys, padded]
  alignas(64) float scores[kMaxTileRows * kTileKeys];
  alignas(64) float current[kMaxTileRows * kPaddedDim];  // weighted values of this partition
  alignas(64) float total[kMaxTileRows * kPaddedDim];    // and of all partitions before
  RowState current_state[kMaxTileRows];
  RowState total_state[kMaxTileRows];
  NextTile next;
  int low[kMaxTileRows];  // keys of the tile the row sees: [low, high)
  int high[kMaxTileRows];
};

/// Keys [first, first + count) of a paged cache into scratch.keys. Lanes beyond `count` hold whatever the block holds
/// there: they are masked.
template <typename T>
void load_keys(const KeySource& source, std::int64_t first, int count, int dim, TileScratch& scratch) {
  for (int group = 0; group < count; group += kVec) {
    KeyCursor<T> keys(source, first + group, dim);
    float* to = scratch.keys + group;
    scratch.next.step();
    for (int begin = 0; begin < dim; begin += kQ8Run) {
      keys.begin(begin);
      const int end = begin + kQ8Run < dim ? begin + kQ8Run : dim;
      for (int d = begin; d < end; ++d) v_store(to + static_cast<std::int64_t>(d) * kTileKeys, keys.at(d));
    }
  }
}

/// The same from rows of keys (encoders), transposing.
void load_key_rows(const KeySource& source, std::int64_t first, int count, int dim, TileScratch& scratch) {
  for (int group = 0; group < count; group += kVec) {
    const float* rows[kVec];
    for (int i = 0; i < kVec; ++i) {  // beyond the last key: the last again, masked later
      const int key = group + i < count ? group + i : count - 1;
      rows[i] = static_cast<const float*>(source.keys) + (first + key) * source.row_stride;
    }
    Vec block[kVec];
    for (int d = 0; d < dim; d += kVec) {
      for (int i = 0; i < kVec; ++i) {
        block[i] = d + kVec <= dim ? v_load(rows[i] + d) : v_load_first(rows[i] + d, dim - d);
      }
      transpose_store(block, scratch.keys + static_cast<std::int64_t>(d) * kTileKeys + group, kTileKeys);
    }
  }
}

/// Values of keys [first, first + count), widened, padded with zeros.
template <typename T>
void load_values(const KeySource& source, std::int64_t first, int count, int dim, int padded, TileScratch& scratch) {
  for (int i = 0; i < count; ++i) {
    if (i % kVec == 0) scratch.next.step();
    const ValueCursor<T> value(source, first + i, dim);
    float* out = scratch.values + static_cast<std::int64_t>(i) * padded;
    int d = 0;
    for (; d + kVec <= dim; d += kVec) v_store(out + d, value.at(d));
    if (d < dim) v_store(out + d, value.first(d, dim - d));
  }
}

/// The same from rows of values (encoders).
void load_value_rows(const KeySource& source, std::int64_t first, int count, int dim, int padded,
                     TileScratch& scratch) {
  for (int i = 0; i < count; ++i) {
    const float* row = static_cast<const float*>(source.values) + (first + i) * source.row_stride;
    float* out = scratch.values + static_cast<std::int64_t>(i) * padded;
    int d = 0;
    for (; d + kVec <= dim; d += kVec) v_store(out + d, v_load(row + d));
    if (d < dim) v_store(out + d, v_load_first(row + d, dim - d));
  }
}

/// Widens the tile's keys into scratch.keys (transposed) and its values into scratch.values.
template <typename T>
void load_tile(const KeySource& source, std::int64_t first, int count, int dim, int padded, TileScratch& scratch) {
  if (source.block_table == nullptr) {
    load_key_rows(source, first, count, dim, scratch);
    load_value_rows(source, first, count, dim, padded, scratch);
  } else {
    load_keys<T>(source, first, count, dim, scratch);
    load_values<T>(source, first, count, dim, padded, scratch);
  }
}

}  // namespace
}  // namespace inferd
