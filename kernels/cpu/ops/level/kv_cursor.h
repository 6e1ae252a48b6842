// Reading keys and values out of a paged cache, a vector at a time, whatever type they are stored as. Level sources
// only.
#pragma once

#include "kernels/cpu/ops/level/vec.h"
#include "kernels/cpu/ops/row_kernels.h"

namespace inferd {
namespace {

/// A byte of a q8_0 block: strides of such caches count bytes. A head's part of a block is its quants, laid out as
/// other types' elements are, then the f16 scales of every kQ8Run components: of keys [head_dim / kQ8Run, block_size],
/// of values [block_size, head_dim / kQ8Run].
struct Q8 {
  std::int8_t quant;
};
constexpr int kQ8Run = 32;

#if INFERD_LEVEL_RANK >= 3
inline Vec v_load(const Q8* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
#elif INFERD_LEVEL_RANK >= 1
inline Vec v_load(const Q8* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
#else
inline Vec v_load(const Q8* p) {
  return Vec{static_cast<float>(p[0].quant), static_cast<float>(p[1].quant), static_cast<float>(p[2].quant),
             static_cast<float>(p[3].quant)};
}
#endif

/// Bytes of one head's keys (or values) in a block.
template <typename T>
constexpr std::int64_t head_block_bytes(std::int64_t block_size, std::int64_t dim) {
  return static_cast<std::int64_t>(sizeof(T)) * block_size * dim;
}
template <>
constexpr std::int64_t head_block_bytes<Q8>(std::int64_t block_size, std::int64_t dim) {
  return block_size * dim + block_size * (dim / kQ8Run) * static_cast<std::int64_t>(sizeof(Half));
}

/// The block of `key`, at this head.
template <typename T>
inline const T* block_of(const KeySource& source, const void* base, std::int64_t key) {
  return static_cast<const T*>(base) + source.block_table[key / source.block_size] * source.block_stride;
}

/// kVec neighbouring keys, component by component.
template <typename T>
class KeyCursor {
 public:
  KeyCursor() = default;
  KeyCursor(const KeySource& source, std::int64_t key, int)
      : from_(block_of<T>(source, source.keys, key) + key % source.block_size), size_(source.block_size) {}
  /// Before components [d, …) of the same kQ8Run.
  void begin(int) {}
  Vec at(int d) const { return v_load(from_ + d * size_); }

 private:
  const T* from_ = nullptr;
  std::int64_t size_ = 0;
};

template <>
class KeyCursor<Q8> {
 public:
  KeyCursor() = default;
  KeyCursor(const KeySource& source, std::int64_t key, int dim) : size_(source.block_size) {
    const Q8* block = block_of<Q8>(source, source.keys, key);
    from_ = block + key % size_;
    scales_ = reinterpret_cast<const Half*>(block + size_ * dim) + key % size_;
  }
  void begin(int d) { scale_ = v_load(scales_ + d / kQ8Run * size_); }
  Vec at(int d) const { return v_mul(v_load(from_ + d * size_), scale_); }

 private:
  const Q8* from_ = nullptr;
  const Half* scales_ = nullptr;
  std::int64_t size_ = 0;
  Vec scale_;
};

/// The value of one key.
template <typename T>
class ValueCursor {
 public:
  ValueCursor(const KeySource& source, std::int64_t key, int)
      : row_(block_of<T>(source, source.values, key) + key % source.block_size * source.row_stride),
        stride_(source.row_stride) {}
  Vec at(int d) const { return v_load(row_ + d); }
  Vec first(int d, int count) const { return v_load_first(row_ + d, count); }
  /// On to the next key, in the same block.
  void advance() { row_ += stride_; }

 private:
  const T* row_;
  std::int64_t stride_;
};

template <>
class ValueCursor<Q8> {
 public:
  ValueCursor(const KeySource& source, std::int64_t key, int dim) : dim_(dim) {
    const Q8* block = block_of<Q8>(source, source.values, key);
    const std::int64_t at = key % source.block_size;
    row_ = block + at * dim;
    scales_ =
        reinterpret_cast<const Half*>(block + static_cast<std::int64_t>(source.block_size) * dim) + at * (dim / kQ8Run);
  }
  Vec at(int d) const { return v_mul(v_load(row_ + d), v_set(widen(scales_[d / kQ8Run]))); }
  Vec first(int d, int) const { return at(d); }  // never needed: head_dim is a multiple of kQ8Run
  void advance() {
    row_ += dim_;
    scales_ += dim_ / kQ8Run;
  }

 private:
  static float widen(Half half) {
#if INFERD_LEVEL_RANK >= 1
    return _cvtsh_ss(half.bits);
#else
    return half_to_float(half.bits);
#endif
  }
  const Q8* row_;
  const Half* scales_;
  int dim_;
};

/// kQ8Run floats as quants `stride` apart; returns their scale. x ≈ scale * quant; an infinity or NaN makes it NaN.
inline Half quantize_run(const float* x, std::int64_t stride, Q8* out) {
  Vec largest = v_set(0.0f), probe = v_set(0.0f);
  for (int i = 0; i < kQ8Run; i += kVec) {
    const Vec v = v_load(x + i);
    largest = v_max(largest, v_max(v, v_sub(v_set(0.0f), v)));
    probe = v_fma(v, v_set(0.0f), probe);
  }
  const float check = v_sum(probe);
  const Half scale = {check == 0.0f ? float_to_half(v_lane_max(largest) / 127.0f) : std::uint16_t{0x7e00}};
  const float step = half_to_float(scale.bits);
  const float inverse = check == 0.0f && step > 0.0f ? 1.0f / step : 0.0f;
  for (int i = 0; i < kQ8Run; i += kVec) {
    // A scale rounded to so few bits that quants leave the byte's range is a subnormal one: cut them off.
    Vec q = check == 0.0f ? v_round(v_max(v_set(-127.0f), v_min(v_set(127.0f), v_mul(v_load(x + i), v_set(inverse)))))
                          : v_set(0.0f);
    float lanes[kVec];
    v_store(lanes, q);
    for (int k = 0; k < kVec; ++k) out[(i + k) * stride].quant = static_cast<std::int8_t>(lanes[k]);
  }
  return scale;
}

}  // namespace
}  // namespace inferd
