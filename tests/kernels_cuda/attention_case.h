// Attention's tests: sequences in a paged cache full of NaNs, one step over them, and the definition in fp64.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

#include "kernels/cuda/cuda_ops.h"
#include "tests/kernels_cuda/sim_launcher.h"
#include "tests/ptxsim/float_formats.h"

namespace inferd::cuda::test {

struct AttentionShape {
  int heads = 4, kv_heads = 2, dim = 64;
  DType type = DType::f32;
  int window = 0;
  float softcap = 0.0f;
  bool alibi = false;
  int prefix = 0;      // first keys that every query sees
  float scale = 0.0f;  // 0: dim^-1/2

  float scale_or_default() const { return scale > 0.0f ? scale : 1.0f / std::sqrt(static_cast<float>(dim)); }
  float slope(int head) const { return std::pow(2.0f, -8.0f * static_cast<float>(head + 1) / heads); }
};

inline std::uint16_t to_16_bits(float x, DType type) {
  return type == DType::f16 ? ptxsim::float_to_f16(x) : ptxsim::float_to_bf16(x);
}
/// 32 numbers as q8_0 has them: x ≈ scale * code, the largest at ±127.
struct Q8Run {
  explicit Q8Run(const float* x) {
    float largest = 0.0f;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    scale = ptxsim::float_to_f16(largest / 127.0f);
    const float step = ptxsim::f16_to_float(scale);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::int8_t>(step > 0.0f ? std::lround(x[i] / step) : 0);
  }
  float value(int i) const { return ptxsim::f16_to_float(scale) * codes[i]; }
  std::uint16_t scale;
  std::int8_t codes[32];
};

/// A head's row as fp8 has it: x ≈ scale * code, the largest at ±448.
struct Fp8Head {
  Fp8Head(const float* x, int dim) {
    float largest = 0.0f;
    for (int i = 0; i < dim; ++i) largest = std::max(largest, std::fabs(x[i]));
    scale = ptxsim::float_to_f16(largest / 448.0f);
    const double step = ptxsim::f16_to_float(scale);
    for (int i = 0; i < dim; ++i) {
      const double code = step > 0.0 ? x[i] / step : 0.0;
      codes.push_back(
          static_cast<std::uint8_t>(ptxsim::encode_float(code, ptxsim::kE4m3, ptxsim::Rounding::nearest_even, true)));
    }
  }
  float value(std::size_t i) const {
    return static_cast<float>(ptxsim::f16_to_float(scale) * ptxsim::decode_float(codes[i], ptxsim::kE4m3));
  }
  std::uint16_t scale;
  std::vector<std::uint8_t> codes;
};

/// Makes of x [rows, dim] what the cache keeps of it.
inline void round_as_stored(std::vector<float>& x, DType type, int dim) {
  if (type == DType::fp8) {
    const auto width = static_cast<std::size_t>(dim);
    for (std::size_t at = 0; at < x.size(); at += width) {
      const Fp8Head head(&x[at], dim);
      for (std::size_t i = 0; i < width; ++i) x[at + i] = head.value(i);
    }
  } else if (type == DType::q8_0) {
    for (std::size_t at = 0; at < x.size(); at += 32) {
      const Q8Run run(&x[at]);
      for (int i = 0; i < 32; ++i) x[at + static_cast<std::size_t>(i)] = run.value(i);
    }
  } else if (type != DType::f32) {
    for (float& v : x) {
      v = type == DType::f16 ? ptxsim::f16_to_float(ptxsim::float_to_f16(v))
                             : ptxsim::bf16_to_float(ptxsim::float_to_bf16(v));
    }
  }
}

/// One sequence's tokens: q [length, heads, dim], k and v [length, kv_heads, dim] as the cache holds them.
struct AttentionSequence {
  AttentionSequence(const AttentionShape& shape, int tokens, unsigned seed) : length(tokens) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& to, int heads, DType type) {
      to.resize(static_cast<std::size_t>(tokens) * heads * shape.dim);
      for (float& x : to) x = normal(engine);
      round_as_stored(to, type, shape.dim);
    };
    fill(q, shape.heads, DType::f32);
    fill(k, shape.kv_heads, shape.type);
    fill(v, shape.kv_heads, shape.type);
  }
  int length;
  std::vector<float> q, k, v;
};

/// Queries [begin, end) of a sequence in one step.
struct AttentionChunk {
  const AttentionSequence* sequence;
  int begin, end;
};

/// A step's tensors in the memory of a simulator.
class AttentionStep {
 public:
  AttentionStep(SimLauncher& sim, const AttentionShape& shape, const std::vector<AttentionChunk>& chunks,
                unsigned block_seed)
      : sim_(sim), shape_(shape) {
    batch.num_sequences = static_cast<std::int32_t>(chunks.size());
    int blocks = 0;
    for (const AttentionChunk& c : chunks) {
      batch.num_tokens += c.end - c.begin;
      batch.max_query_len = std::max(batch.max_query_len, c.end - c.begin);
      batch.max_context_len = std::max(batch.max_context_len, c.end);
      blocks += (c.end + 15) / 16;
    }
    order_.resize(static_cast<std::size_t>(blocks) + 3);
    std::iota(order_.begin(), order_.end(), 0);
    std::shuffle(order_.begin(), order_.end(), std::mt19937(block_seed));
    // The last sequence ends where the memory does: what is read behind it is seen.
    std::swap(order_[static_cast<std::size_t>(blocks) - 1], *std::max_element(order_.begin(), order_.end()));
    const std::int64_t pool = blocks + 3;
    args.kv.keys = memory({pool, shape.kv_heads, 16, shape.dim}, "keys");
    args.kv.values = memory({pool, shape.kv_heads, 16, shape.dim}, "values");
    fill(chunks);
    args.num_heads = shape.heads;
    args.num_kv_heads = shape.kv_heads;
    args.head_dim = shape.dim;
    args.batch = &batch;
    args.scale = shape.scale_or_default();
    args.sliding_window = shape.window;
    args.softcap = shape.softcap;
    if (shape.alibi) {
      std::vector<float> slopes;
      for (int h = 0; h < shape.heads; ++h) slopes.push_back(shape.slope(h));
      args.alibi_slopes = sim.put(slopes, DType::f32, {shape.heads}, "slopes");
    }
    args.out = sim.output(DType::f32, {batch.num_tokens, shape.heads * shape.dim}, "out");
  }

  std::vector<float> output() const {
    return sim_.get<float>(args.out.data, static_cast<std::size_t>(args.out.elements()));
  }

  AttentionArgs args;
  BatchTensors batch;

 private:
  Tensor memory(std::initializer_list<std::int64_t> shape, const std::string& name) {
    Tensor tensor(nullptr, shape_.type, shape);
    tensor.data = sim_.allocate(kv_bytes(shape_.type, tensor.elements() / shape_.dim, shape_.dim), name);
    return tensor;
  }

  void store(const Tensor& to, int block, int kv_head, int offset, const float* from) {
    const std::size_t dim = static_cast<std::size_t>(shape_.dim), row = static_cast<std::size_t>(offset);
    const std::size_t page = kv_bytes(shape_.type, 16, shape_.dim);
    std::byte* at = to.as<std::byte>() + (static_cast<std::size_t>(block) * shape_.kv_heads + kv_head) * page;
    if (shape_.type == DType::q8_0) {
      for (std::size_t d = 0; d < dim; d += 32) {
        const Q8Run run(from + d);
        sim_.write(at + row * dim + d, run.codes, 32);
        sim_.write(at + 16 * dim + (row * dim + d) / 16, &run.scale, 2);
      }
      return;
    }
    if (shape_.type == DType::fp8) {
      const Fp8Head head(from, shape_.dim);
      sim_.write(at + row * dim, head.codes.data(), dim);
      return sim_.write(at + 16 * dim + row * 2, &head.scale, 2);
    }
    if (shape_.type == DType::f32) return sim_.write(at + row * dim * 4, from, dim * 4);
    std::vector<std::uint16_t> bits(dim);
    for (std::size_t d = 0; d < dim; ++d) bits[d] = to_16_bits(from[d], shape_.type);
    sim_.write(at + row * dim * 2, bits.data(), dim * 2);
  }

  void fill(const std::vector<AttentionChunk>& chunks) {
    const int max_blocks = (batch.max_context_len + 15) / 16 + 1;
    const int width = (shape_.heads + 2 * shape_.kv_heads) * shape_.dim, q_width = shape_.heads * shape_.dim;
    std::vector<float> qkv(static_cast<std::size_t>(batch.num_tokens) * width, std::nanf(""));
    std::vector<std::int32_t> starts = {0}, contexts, prefixes, tables(chunks.size() * max_blocks, 1 << 30);
    std::size_t next = 0, row = 0;
    for (std::size_t s = 0; s < chunks.size(); ++s) {
      const AttentionChunk& c = chunks[s];
      for (int key = 0; key < c.end; ++key) {
        if (key % 16 == 0) tables[s * max_blocks + key / 16] = order_[next++];
        for (int h = 0; h < shape_.kv_heads; ++h) {
          const std::size_t from = (static_cast<std::size_t>(key) * shape_.kv_heads + h) * shape_.dim;
          store(args.kv.keys, order_[next - 1], h, key % 16, &c.sequence->k[from]);
          store(args.kv.values, order_[next - 1], h, key % 16, &c.sequence->v[from]);
        }
      }
      for (int token = c.begin; token < c.end; ++token, ++row) {
        std::copy_n(c.sequence->q.begin() + static_cast<std::ptrdiff_t>(token) * q_width, q_width,
                    qkv.begin() + static_cast<std::ptrdiff_t>(row) * width);
      }
      starts.push_back(static_cast<std::int32_t>(row));
      contexts.push_back(c.end);
      prefixes.push_back(std::min(shape_.prefix, c.end));
    }
    const std::int64_t count = static_cast<std::int64_t>(chunks.size());
    args.qkv = sim_.put(qkv, DType::f32, {batch.num_tokens, width}, "qkv");
    batch.query_starts = sim_.put(starts, DType::i32, {count + 1}, "query_starts");
    batch.context_lens = sim_.put(contexts, DType::i32, {count}, "context_lens");
    batch.block_tables = sim_.put(tables, DType::i32, {count, max_blocks}, "block_tables");
    if (shape_.prefix > 0) batch.prefix_lens = sim_.put(prefixes, DType::i32, {count}, "prefix_lens");
  }

  SimLauncher& sim_;
  AttentionShape shape_;
  std::vector<std::int32_t> order_;
};

/// Runs one step; returns [T, heads * dim].
inline std::vector<float> attend(SimLauncher& sim, const AttentionShape& shape,
                                 const std::vector<AttentionChunk>& chunks, unsigned block_seed = 7) {
  AttentionStep step(sim, shape, chunks, block_seed);
  attention(sim, step.args);
  return step.output();
}

inline std::vector<float> rows_of(const std::vector<float>& out, int first, int count, const AttentionShape& shape) {
  const std::ptrdiff_t width = static_cast<std::ptrdiff_t>(shape.heads) * shape.dim;
  return {out.begin() + first * width, out.begin() + (first + count) * width};
}

/// softmax(q k^T * scale) v over the keys a query at `position` sees, in fp64: [heads, dim]. `context`: keys there are.
inline std::vector<double> attention_reference(const AttentionShape& shape, const AttentionSequence& s, int position,
                                               int context) {
  std::vector<double> out(static_cast<std::size_t>(shape.heads) * shape.dim);
  const int group = shape.heads / shape.kv_heads;
  for (int h = 0; h < shape.heads; ++h) {
    std::vector<double> weights(static_cast<std::size_t>(context));
    double maximum = -INFINITY, sum = 0.0;
    const auto seen = [&](int key) {
      return (key <= position || key < shape.prefix) && (shape.window == 0 || position - shape.window < key);
    };
    const auto at = [&](const std::vector<float>& kv, int key, int d) {
      return static_cast<double>(kv[(static_cast<std::size_t>(key) * shape.kv_heads + h / group) * shape.dim + d]);
    };
    for (int key = 0; key < context; ++key) {
      double score = 0.0;
      for (int d = 0; d < shape.dim; ++d) {
        score += at(s.k, key, d) * s.q[(static_cast<std::size_t>(position) * shape.heads + h) * shape.dim + d];
      }
      score *= shape.scale_or_default();
      if (shape.softcap > 0.0f) score = shape.softcap * std::tanh(score / shape.softcap);
      if (shape.alibi) score -= static_cast<double>(shape.slope(h)) * (position - key);
      weights[static_cast<std::size_t>(key)] = score;
      if (seen(key)) maximum = std::max(maximum, score);
    }
    for (int key = 0; key < context; ++key) {
      double& w = weights[static_cast<std::size_t>(key)];
      w = seen(key) ? std::exp(w - maximum) : 0.0;
      sum += w;
    }
    for (int d = 0; d < shape.dim; ++d) {
      double value = 0.0;
      for (int key = 0; key < context; ++key) value += weights[static_cast<std::size_t>(key)] * at(s.v, key, d);
      out[static_cast<std::size_t>(h) * shape.dim + d] = value / sum;
    }
  }
  return out;
}

/// The largest distance of a step's result from the reference; NaNs are infinitely far.
inline double attention_error(const AttentionShape& shape, const std::vector<AttentionChunk>& chunks,
                              const std::vector<float>& out) {
  double worst = 0.0;
  std::size_t row = 0;
  for (const AttentionChunk& c : chunks) {
    for (int token = c.begin; token < c.end; ++token) {
      for (const double expected : attention_reference(shape, *c.sequence, token, c.end)) {
        const double error = std::fabs(out[row++] - expected);
        worst = std::isnan(error) ? INFINITY : std::max(worst, error);
      }
    }
  }
  return worst;
}

}  // namespace inferd::cuda::test
