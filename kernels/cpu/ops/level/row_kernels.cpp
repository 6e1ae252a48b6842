// Row kernels of one instruction level: norms, what stands between QKV product and attention, and their table.
#include "kernels/cpu/ops/row_kernels.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/ops/level/attention_tile.h"
#include "kernels/cpu/ops/level/vec.h"

namespace inferd {
namespace {

/// Calls step(vector of x, offset, lanes) over a row, the tail padded with zeros.
template <typename Step>
inline void for_row(const float* x, std::int64_t columns, const Step& step) {
  std::int64_t i = 0;
  for (; i + kVec <= columns; i += kVec) step(v_load(x + i), i, kVec);
  if (i < columns) step(v_load_first(x + i, static_cast<int>(columns - i)), i, static_cast<int>(columns - i));
}
inline Vec load_lanes(const float* p, int lanes) { return lanes == kVec ? v_load(p) : v_load_first(p, lanes); }
inline void store_lanes(float* p, Vec x, int lanes) {
  if (lanes == kVec) {
    v_store(p, x);
  } else {
    v_store_first(p, x, lanes);
  }
}

/// out = x * factor * weight (+ bias); factor multiplies first, as the reference does.
void scale_row(const float* x, float shift, float factor, const float* weight, const float* bias, std::int64_t columns,
               float* out) {
  for_row(x, columns, [&](Vec v, std::int64_t at, int lanes) {
    Vec y = v_mul(v_mul(v_sub(v, v_set(shift)), v_set(factor)), load_lanes(weight + at, lanes));
    if (bias != nullptr) y = v_add(y, load_lanes(bias + at, lanes));
    store_lanes(out + at, y, lanes);
  });
}

void rms_norm(const float* x, const float* weight, const float* bias, float eps, std::int64_t columns, float* out) {
  Vec squares = v_set(0.0f);
  for_row(x, columns, [&](Vec v, std::int64_t, int) { squares = v_fma(v, v, squares); });
  const float mean = v_sum(squares) / static_cast<float>(columns);
  scale_row(x, 0.0f, 1.0f / __builtin_sqrtf(mean + eps), weight, bias, columns, out);
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::int64_t columns, float* out) {
  Vec sum = v_set(0.0f);
  for_row(x, columns, [&](Vec v, std::int64_t, int) { sum = v_add(sum, v); });
  const float mean = v_sum(sum) / static_cast<float>(columns);
  Vec squares = v_set(0.0f);
  for_row(x, columns, [&](Vec v, std::int64_t, int lanes) {
    Vec centred = v_sub(v, v_set(mean));
    if (lanes < kVec) centred = v_keep_range(centred, 0, lanes, v_set(0.0f));
    squares = v_fma(centred, centred, squares);
  });
  const float variance = v_sum(squares) / static_cast<float>(columns);
  scale_row(x, mean, 1.0f / __builtin_sqrtf(variance + eps), weight, bias, columns, out);
}

/// (a, b) -> (a cos - b sin, b cos + a sin) over pairs (i, i + half) or (2i, 2i + 1).
void rotate_head(float* head, const float* rope, int rotary_dim, bool interleaved) {
  const int pairs = rotary_dim / 2;
  const int step = interleaved ? 2 : 1;
  const int partner = interleaved ? 1 : pairs;
  for (int i = 0; i < pairs; ++i) {
    const float cosine = rope[2 * i], sine = rope[2 * i + 1];
    const float a = head[i * step], b = head[i * step + partner];
    head[i * step] = a * cosine - b * sine;
    head[i * step + partner] = b * cosine + a * sine;
  }
}

template <typename T>
void store_head(const float* head, int head_dim, T* out) {
  for_row(head, head_dim, [&](Vec v, std::int64_t at, int lanes) {
    if (lanes == kVec) {
      v_store(out + at, v);
    } else {
      v_store_first(out + at, v, lanes);
    }
  });
}

/// Keys lie by component: neighbours are `stride` apart.
template <typename T>
void store_key(const float* head, int head_dim, std::int64_t stride, T* out) {
  for_row(head, head_dim, [&](Vec v, std::int64_t at, int lanes) {
    T stored[kVec];
    v_store(stored, v);
    for (int i = 0; i < lanes; ++i) out[(at + i) * stride] = stored[i];
  });
}

template <typename T>
void store_heads(const QkvPostRow& row, const float* k, const float* v) {
  for (int head = 0; head < row.num_kv_heads; ++head) {
    const std::int64_t from = static_cast<std::int64_t>(head) * row.head_dim;
    store_key(k + from, row.head_dim, row.key_stride, static_cast<T*>(row.keys) + head * row.head_stride);
    store_head(v + from, row.head_dim, static_cast<T*>(row.values) + head * row.head_stride);
  }
}

/// Quants as other types' elements, scales behind the block's.
void store_heads_q8(const QkvPostRow& row, const float* k, const float* v) {
  const std::int64_t dim = row.head_dim, size = row.block_size;
  for (int head = 0; head < row.num_kv_heads; ++head) {
    Q8* key = static_cast<Q8*>(row.keys) + head * row.head_stride;
    Q8* value = static_cast<Q8*>(row.values) + head * row.head_stride;
    Half* key_scales = reinterpret_cast<Half*>(key - row.slot + size * dim) + row.slot;
    Half* value_scales = reinterpret_cast<Half*>(value - row.slot * dim + size * dim) + row.slot * (dim / kQ8Run);
    for (std::int64_t d = 0; d < dim; d += kQ8Run) {
      key_scales[d / kQ8Run * size] = quantize_run(k + head * dim + d, size, key + d * size);
      value_scales[d / kQ8Run] = quantize_run(v + head * dim + d, 1, value + d);
    }
  }
}

void qkv_post(const QkvPostRow& row) {
  const std::int64_t dim = row.head_dim;
  for (int head = 0; head < row.num_heads + row.num_kv_heads; ++head) {
    float* x = row.qkv + head * dim;
    const bool is_query = head < row.num_heads;
    const float* norm = is_query ? row.q_norm : row.k_norm;
    if (norm != nullptr) rms_norm(x, norm, nullptr, row.norm_eps, dim, x);
    if (row.rope != nullptr) rotate_head(x, row.rope, row.rotary_dim, row.interleaved);
    if (row.second_rope != nullptr) rotate_head(x + row.rotary_dim, row.second_rope, row.rotary_dim, row.interleaved);
    if (is_query && row.q_scale != 1.0f) {
      for (std::int64_t i = 0; i < dim; ++i) x[i] *= row.q_scale;
    }
  }
  if (row.keys == nullptr) return;
  float* k = row.qkv + row.num_heads * dim;
  const float* v = k + row.num_kv_heads * dim;
  switch (row.element) {
    case KvElement::f32:
      store_heads<float>(row, k, v);
      break;
    case KvElement::f16:
      store_heads<Half>(row, k, v);
      break;
    case KvElement::bf16:
      store_heads<Bfloat>(row, k, v);
      break;
    case KvElement::q8_0:
      if (row.k_shift != nullptr) {  // nobody reads these keys but the cache
        for (std::int64_t i = 0; i < row.num_kv_heads * dim; ++i) k[i] -= row.k_shift[i];
      }
      store_heads_q8(row, k, v);
      break;
  }
}

void shrink(const float* x, const float* a, std::int64_t columns, std::int64_t rank, float* out) {
  for (std::int64_t r = 0; r < rank; ++r) {
    const float* row = a + r * columns;
    Vec sums = v_set(0.0f);
    for_row(x, columns, [&](Vec v, std::int64_t at, int lanes) { sums = v_fma(v, load_lanes(row + at, lanes), sums); });
    out[r] = v_sum(sums);
  }
}

void expand(const float* s, const float* b, std::int64_t stride, std::int64_t rank, std::int64_t columns, float* out) {
  const auto stretch = [&](std::int64_t at, int lanes) {
    Vec sum = v_set(0.0f);
    for (std::int64_t r = 0; r < rank; ++r) sum = v_fma(v_set(s[r]), load_lanes(b + r * stride + at, lanes), sum);
    store_lanes(out + at, sum, lanes);
  };
  std::int64_t at = 0;
  for (; at + kVec <= columns; at += kVec) stretch(at, kVec);
  if (at < columns) stretch(at, static_cast<int>(columns - at));
}

void add_weighted(const float* const* rows, const float* weights, int count, std::int64_t columns, float* x) {
  for_row(x, columns, [&](Vec v, std::int64_t at, int lanes) {
    Vec sum = v_set(0.0f);
    for (int i = 0; i < count; ++i) sum = v_fma(v_set(weights[i]), load_lanes(rows[i] + at, lanes), sum);
    store_lanes(x + at, v_add(v, sum), lanes);
  });
}

void exp_row(const float* x, std::int64_t count, float* out) {
  for_row(x, count, [&](Vec v, std::int64_t at, int lanes) { store_lanes(out + at, v_exp(v), lanes); });
}

}  // namespace

namespace INFERD_LEVEL {
extern const RowKernels kRowKernels;
const RowKernels kRowKernels = {rms_norm, layer_norm, qkv_post,     attention_tile, merge_partials,
                                shrink,   expand,     add_weighted, exp_row};
}  // namespace INFERD_LEVEL

}  // namespace inferd
