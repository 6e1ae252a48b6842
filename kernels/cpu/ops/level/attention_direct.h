// Attention of a single query: keys and values go from the paged cache straight into the multiplications, each widened
// once for all heads that share it. Level sources only.
#pragma once

#include "kernels/cpu/ops/level/tile_scratch.h"
#include "kernels/cpu/ops/level/vec.h"

// The additions and their order are those of attention_tile.h's blocks, so the results are the same bits: scores add
// over d ascending, values over keys ascending.

namespace inferd {
namespace {

/// Rows (heads) that go through the registers together, and vectors of keys or of a value beside them.
constexpr int kDirectRows = kVec == 16 ? 8 : 4;
constexpr int direct_columns(int rows) { return kVec == 16 && rows <= 4 ? 4 : 2; }
/// Components or keys between two steps of the prefetcher.
constexpr int kDirectRun = 8;

/// scores[kRows, kColumns * kVec keys] of the keys from `first` on.
template <typename T, int kRows, int kColumns>
inline void direct_scores(const KeySource& source, std::int64_t first, int dim, const float* q, std::int64_t q_stride,
                          NextTile& next, float* scores) {
  KeyCursor<T> keys[kColumns];
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; ++c) keys[c] = KeyCursor<T>(source, first + c * kVec, dim);
  Vec sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = v_set(0.0f);
  }
  for (int begin = 0; begin < dim; begin += kDirectRun) {
    next.step();
    const int end = begin + kDirectRun < dim ? begin + kDirectRun : dim;
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) keys[c].begin(begin);
    for (int d = begin; d < end; ++d) {
      Vec key[kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) key[c] = keys[c].at(d);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec x = v_set(q[r * q_stride + d]);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) sums[r][c] = v_fma(x, key[c], sums[r][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) v_store(scores + r * kTileKeys + c * kVec, sums[r][c]);
  }
}

/// out[kRows, kColumns * kVec] += weights[kRows, keys low … high) * values, of components from `d` on.
template <typename T, int kRows, int kColumns>
inline void direct_values(const KeySource& source, std::int64_t first, int low, int high, int d, const float* weights,
                          int padded, NextTile& next, float* out) {
  const std::int64_t size = source.block_size;
  Vec sums[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = v_load(out + static_cast<std::int64_t>(r) * padded + c * kVec);
  }
  for (int begin = low; begin < high;) {
    next.step();
    const std::int64_t key = first + begin;
    const std::int64_t left = size - key % size;  // in this block
    int end = begin + (left < kDirectRun ? static_cast<int>(left) : kDirectRun);
    end = end < high ? end : high;
    for (ValueCursor<T> values(source, key, padded); begin < end; ++begin, values.advance()) {
      Vec value[kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) value[c] = values.at(d + c * kVec);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const Vec weight = v_set(weights[r * kTileKeys + begin]);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) sums[r][c] = v_fma(weight, value[c], sums[r][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) v_store(out + static_cast<std::int64_t>(r) * padded + c * kVec, sums[r][c]);
  }
}

/// Calls Work<rows>::run(args...) for 1 ≤ rows ≤ kDirectRows.
template <template <int> class Work, typename... Args>
inline void for_direct_rows(int rows, Args&&... args) {
  switch (rows) {
    case 1:
      return Work<1>::run(args...);
    case 2:
      return Work<2>::run(args...);
    case 3:
      return Work<3>::run(args...);
    case 4:
      return Work<4>::run(args...);
    default:
      break;
  }
  if constexpr (kDirectRows > 4) {
    switch (rows) {
      case 5:
        return Work<5>::run(args...);
      case 6:
        return Work<6>::run(args...);
      case 7:
        return Work<7>::run(args...);
      default:
        return Work<8>::run(args...);
    }
  }
}

template <typename T>
struct Direct {
  template <int kRows>
  struct Scores {
    static void run(const KeySource& source, std::int64_t first, int count, int dim, const float* q,
                    std::int64_t q_stride, NextTile& next, float* scores) {
      constexpr int kColumns = direct_columns(kRows);
      int at = 0;
      for (; at + (kColumns - 1) * kVec < count; at += kColumns * kVec) {
        direct_scores<T, kRows, kColumns>(source, first + at, dim, q, q_stride, next, scores + at);
      }
      for (; at < count; at += kVec) {
        direct_scores<T, kRows, 1>(source, first + at, dim, q, q_stride, next, scores + at);
      }
    }
  };
  template <int kRows>
  struct Values {
    static void run(const KeySource& source, std::int64_t first, int low, int high, const float* weights, int padded,
                    NextTile& next, float* out) {
      constexpr int kColumns = direct_columns(kRows);
      int d = 0;
      for (; d + kColumns * kVec <= padded; d += kColumns * kVec) {
        direct_values<T, kRows, kColumns>(source, first, low, high, d, weights, padded, next, out + d);
      }
      for (; d < padded; d += kVec) {
        direct_values<T, kRows, 1>(source, first, low, high, d, weights, padded, next, out + d);
      }
    }
  };
};

/// Scores of keys [first, first + count) with every row, to scratch.scores.
template <typename T>
void score_direct(const KeySource& source, std::int64_t first, int count, int dim, int rows, TileScratch& s) {
  for (int row = 0; row < rows; row += kDirectRows) {
    const int some = rows - row < kDirectRows ? rows - row : kDirectRows;
    for_direct_rows<Direct<T>::template Scores>(some, source, first, count, dim, s.q + row * dim,
                                                static_cast<std::int64_t>(dim), s.next, s.scores + row * kTileKeys);
  }
}

/// Adds the weighted values of keys [first + low, first + high) to every row.
template <typename T>
void value_direct(const KeySource& source, std::int64_t first, int low, int high, int dim, int rows, TileScratch& s) {
  for (int row = 0; row < rows; row += kDirectRows) {
    const int some = rows - row < kDirectRows ? rows - row : kDirectRows;
    for_direct_rows<Direct<T>::template Values>(some, source, first, low, high, s.scores + row * kTileKeys, dim, s.next,
                                                s.current + row * dim);
  }
}

/// Steps of the prefetcher in one tile of both.
inline int direct_steps(int rows, int dim) {
  const int some = rows < kDirectRows ? rows : kDirectRows;
  const int columns = direct_columns(some) * kVec;
  const int chunks = (rows + kDirectRows - 1) / kDirectRows;
  return chunks * (kTileKeys / columns * (dim / kDirectRun) + (dim + columns - 1) / columns * (kTileKeys / kDirectRun));
}

}  // namespace
}  // namespace inferd
