// Paged attention on the CPU against fp64, and its promise that a query's bits depend on its own sequence only.
#include "tests/kernels/ops_harness.h"

namespace inferd::testing {
namespace {

struct Shape {
  int heads = 4, kv_heads = 2, dim = 64;
  DType type = DType::f32;
  int window = 0;
  float softcap = 0.0f;
  bool alibi = false;
  int prefix = 0;  // first keys that every query sees
};

/// The first `count` elements of heads as the cache holds them.
std::vector<double> stored(const Shape& shape, const std::vector<float>& values, std::size_t count) {
  std::vector<double> out(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t i = 0; i < count; ++i) {
    if (shape.type == DType::f16) out[i] = decode_half(encode_half(values[i]));
    if (shape.type == DType::bf16) out[i] = decode_bfloat(encode_bfloat(values[i]));
  }
  if (shape.type != DType::q8_0) return out;
  for (std::size_t i = 0; i < count; i += 32) {
    const Q8Run run(&values[i]);
    for (std::size_t k = 0; k < 32; ++k) out[i + k] = run.scale * run.quants[k];
  }
  return out;
}

/// One sequence's tokens: q [length, heads, dim], k and v [length, kv_heads, dim].
struct Sequence {
  Sequence(const Shape& shape, int tokens, Numbers& numbers)
      : length(tokens),
        q(numbers.normals(static_cast<std::size_t>(tokens) * shape.heads * shape.dim)),
        k(numbers.normals(static_cast<std::size_t>(tokens) * shape.kv_heads * shape.dim)),
        v(numbers.normals(static_cast<std::size_t>(tokens) * shape.kv_heads * shape.dim)) {}
  int length;
  std::vector<float> q, k, v;
};

/// Queries [begin, end) of a sequence in one step.
struct Chunk {
  const Sequence* sequence;
  int begin, end;
};

std::vector<float> slopes(int heads) {
  std::vector<float> out(heads);
  for (int h = 0; h < heads; ++h) out[h] = std::pow(2.0f, -8.0f * static_cast<float>(h + 1) / heads);
  return out;
}

/// Runs one step; blocks are scattered, everything not yet written is NaN. Returns [T, heads * dim].
std::vector<float> attend(OpsRig& rig, const Shape& shape, const std::vector<Chunk>& chunks, unsigned block_seed = 7) {
  int rows = 0, blocks = 0, max_blocks = 0, max_query = 0, max_context = 0;
  for (const Chunk& c : chunks) {
    rows += c.end - c.begin;
    const int needed = (c.end + 15) / 16;
    blocks += needed;
    max_blocks = std::max(max_blocks, needed);
    max_query = std::max(max_query, c.end - c.begin);
    max_context = std::max(max_context, c.end);
  }
  std::vector<int> order(blocks + 3);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 engine(block_seed);
  std::shuffle(order.begin(), order.end(), engine);
  PagedKv kv(blocks + 3, shape.kv_heads, shape.dim, shape.type);
  const int width = (shape.heads + 2 * shape.kv_heads) * shape.dim;
  std::vector<float> qkv(static_cast<std::size_t>(rows) * width, std::nanf(""));
  std::vector<std::int32_t> starts = {0}, contexts, tables(chunks.size() * max_blocks, 1 << 30);
  int next = 0, row = 0;
  for (std::size_t s = 0; s < chunks.size(); ++s) {
    const Chunk& c = chunks[s];
    for (int b = 0; b < (c.end + 15) / 16; ++b) tables[s * max_blocks + b] = order[next++];
    for (int t = 0; t < c.end; ++t) {
      for (int h = 0; h < shape.kv_heads; ++h) {
        const int block = tables[s * max_blocks + t / 16];
        if (shape.type == DType::q8_0) {
          const std::size_t head = (static_cast<std::size_t>(t) * shape.kv_heads + h) * shape.dim;
          q8_write_head(kv, true, block, h, t % 16, &c.sequence->k[head]);
          q8_write_head(kv, false, block, h, t % 16, &c.sequence->v[head]);
          continue;
        }
        for (int d = 0; d < shape.dim; ++d) {
          const std::size_t from = (static_cast<std::size_t>(t) * shape.kv_heads + h) * shape.dim + d;
          kv_write(kv.keys, shape.type, kv.key_at(block, h, t % 16, d), c.sequence->k[from]);
          kv_write(kv.values, shape.type, kv.value_at(block, h, t % 16, d), c.sequence->v[from]);
        }
      }
    }
    for (int t = c.begin; t < c.end; ++t, ++row) {
      std::copy_n(&c.sequence->q[static_cast<std::size_t>(t) * shape.heads * shape.dim], shape.heads * shape.dim,
                  &qkv[static_cast<std::size_t>(row) * width]);
    }
    starts.push_back(row);
    contexts.push_back(c.end);
  }
  BatchTensors batch;
  const std::int64_t n = static_cast<std::int64_t>(chunks.size());
  batch.query_starts = Tensor(starts.data(), DType::i32, {n + 1});
  batch.context_lens = Tensor(contexts.data(), DType::i32, {n});
  batch.block_tables = Tensor(tables.data(), DType::i32, {n, max_blocks});
  batch.num_tokens = rows;
  batch.num_sequences = static_cast<int>(n);
  batch.max_query_len = max_query;
  batch.max_context_len = max_context;
  std::vector<std::int32_t> prefixes;
  for (const Chunk& c : chunks) prefixes.push_back(std::min(shape.prefix, c.end));
  if (shape.prefix > 0) batch.prefix_lens = Tensor(prefixes.data(), DType::i32, {n});
  std::vector<float> out(static_cast<std::size_t>(rows) * shape.heads * shape.dim, -1e30f);
  std::vector<float> slope = slopes(shape.heads);
  AttentionArgs args;
  args.qkv = Tensor(qkv.data(), DType::f32, {rows, width});
  args.num_heads = shape.heads;
  args.num_kv_heads = shape.kv_heads;
  args.head_dim = shape.dim;
  args.kv = kv.layer();
  args.batch = &batch;
  args.scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
  args.sliding_window = shape.window;
  args.softcap = shape.softcap;
  if (shape.alibi) args.alibi_slopes = Tensor(slope.data(), DType::f32, {shape.heads});
  args.out = Tensor(out.data(), DType::f32, {rows, shape.heads * shape.dim});
  cpu_attention(rig.context(), args);
  return out;
}

/// The fp64 answer for query t, head h; k and v as the cache holds them.
std::vector<double> reference(const Shape& shape, const Sequence& s, const std::vector<double>& k,
                              const std::vector<double>& v, int t, int h) {
  const int kv_head = h / (shape.heads / shape.kv_heads);
  const int first = shape.window > 0 ? std::max(0, t - shape.window + 1) : 0;
  const double scale = 1.0 / std::sqrt(static_cast<double>(shape.dim));
  const int last = std::max(t, shape.prefix - 1);
  std::vector<double> weights;
  for (int j = first; j <= last; ++j) {
    double score = 0;
    for (int d = 0; d < shape.dim; ++d) {
      score += static_cast<double>(s.q[(static_cast<std::size_t>(t) * shape.heads + h) * shape.dim + d]) *
               k[(static_cast<std::size_t>(j) * shape.kv_heads + kv_head) * shape.dim + d];
    }
    score *= scale;
    if (shape.softcap > 0) score = shape.softcap * std::tanh(score / shape.softcap);
    if (shape.alibi) score -= static_cast<double>(slopes(shape.heads)[h]) * (t - j);
    weights.push_back(score);
  }
  const double maximum = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& w : weights) sum += w = std::exp(w - maximum);
  std::vector<double> out(shape.dim, 0.0);
  for (int j = first; j <= last; ++j) {
    for (int d = 0; d < shape.dim; ++d) {
      out[d] += weights[j - first] / sum * v[(static_cast<std::size_t>(j) * shape.kv_heads + kv_head) * shape.dim + d];
    }
  }
  return out;
}

/// Largest |difference| from fp64 over the rows of a chunk.
double worst_error(const Shape& shape, const Chunk& chunk, const std::vector<float>& out, int query_step) {
  const std::size_t seen = static_cast<std::size_t>(chunk.end) * shape.kv_heads * shape.dim;
  const std::vector<double> k = stored(shape, chunk.sequence->k, seen), v = stored(shape, chunk.sequence->v, seen);
  double worst = 0;
  for (int t = chunk.begin; t < chunk.end; t += query_step) {
    for (int h = 0; h < shape.heads; ++h) {
      const std::vector<double> expected = reference(shape, *chunk.sequence, k, v, t, h);
      const float* got = &out[(static_cast<std::size_t>(t - chunk.begin) * shape.heads + h) * shape.dim];
      for (int d = 0; d < shape.dim; ++d) {
        const double error = std::fabs(got[d] - expected[d]);
        worst = std::isnan(error) ? INFINITY : std::max(worst, error);
      }
    }
  }
  return worst;
}

constexpr double kTolerance = 3e-6;  // values are of order 1

TEST_CASE("attention agrees with fp64 for every head size and grouping") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(2, level);
    for (int dim : {8, 24, 32, 64, 80, 96, 128, 256}) {
      for (int group : {1, 2, 3, 7, 8}) {
        for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
          if (type == DType::q8_0 && dim % 32 != 0) continue;
          Numbers numbers(dim * 100 + group);
          const Shape shape{2 * group, 2, dim, type};
          const Sequence sequence(shape, 83, numbers);
          const Chunk chunk{&sequence, 0, 83};
          INFO("level " << static_cast<int>(level) << " dim " << dim << " group " << group);
          CHECK(worst_error(shape, chunk, attend(rig, shape, {chunk}), 9) < kTolerance);
        }
      }
    }
  }
}

TEST_CASE("attention agrees with fp64 for every context length up to 300 and beyond a partition") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(1, level);
    const Shape shape{6, 2, 32, DType::f16};
    Numbers numbers(5);
    const Sequence sequence(shape, 1600, numbers);
    for (int context = 1; context <= 300; ++context) {
      const Chunk decode{&sequence, context - 1, context};
      REQUIRE(worst_error(shape, decode, attend(rig, shape, {decode}), 1) < kTolerance);
    }
    for (int context : {511, 512, 513, 767, 768, 769, 1600}) {
      const Chunk decode{&sequence, context - 1, context};
      REQUIRE(worst_error(shape, decode, attend(rig, shape, {decode}), 1) < kTolerance);
    }
  }
}

TEST_CASE("attention agrees with fp64 with windows, soft caps and ALiBi") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(2, level);
    std::vector<Shape> shapes;
    for (int window : {1, 2, 15, 16, 17, 63, 64, 65, 100, 600}) shapes.push_back({4, 2, 32, DType::f32, window});
    shapes.push_back({4, 2, 32, DType::f32, 0, 5.0f});
    shapes.push_back({4, 2, 32, DType::f16, 40, 2.0f, true});
    shapes.push_back({5, 5, 16, DType::f32, 0, 0.0f, true});
    for (const Shape& shape : shapes) {
      Numbers numbers(11);
      const Sequence sequence(shape, 700, numbers);
      INFO("window " << shape.window << " softcap " << shape.softcap);
      const Chunk whole{&sequence, 0, 700};
      CHECK(worst_error(shape, whole, attend(rig, shape, {whole}), 37) < kTolerance);
      const Chunk tail{&sequence, 640, 700};
      CHECK(worst_error(shape, tail, attend(rig, shape, {tail}), 13) < kTolerance);
    }
  }
}

TEST_CASE("attention agrees with fp64 where a prefix sees itself both ways") {
  for (CpuLevel level : machine_levels()) {
    for (int threads : {1, 3}) {
      OpsRig rig(threads, level);
      for (int prefix : {1, 15, 16, 64, 65, 256, 300, 690, 700}) {
        const Shape shape{4, 4, 32, DType::f16, 0, 0.0f, false, prefix};
        Numbers numbers(prefix);
        const Sequence sequence(shape, 700, numbers);
        INFO("prefix " << prefix);
        const Chunk whole{&sequence, 0, 700};
        const std::vector<float> out = attend(rig, shape, {whole});
        CHECK(worst_error(shape, whole, out, 37) < kTolerance);
        const Chunk decode{&sequence, 699, 700};
        CHECK(same_bits(attend(rig, shape, {decode}), {out.end() - 4 * 32, out.end()}));
      }
    }
  }
}

TEST_CASE("chunking a prompt does not change a bit") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(2, level);
    for (Shape shape : {Shape{6, 2, 40, DType::f16}, Shape{4, 4, 32, DType::f32, 70}, Shape{8, 1, 64, DType::bf16},
                        Shape{6, 2, 64, DType::q8_0}}) {
      Numbers numbers(3);
      const int length = 149;
      const Sequence sequence(shape, length, numbers);
      const std::vector<float> whole = attend(rig, shape, {{&sequence, 0, length}});
      for (int size = 1; size < length; size = size < 20 ? size + 1 : size + 11) {
        std::vector<float> joined;
        for (int begin = 0; begin < length; begin += size) {
          const std::vector<float> part =
              attend(rig, shape, {{&sequence, begin, std::min(begin + size, length)}}, static_cast<unsigned>(begin));
          joined.insert(joined.end(), part.begin(), part.end());
        }
        INFO("chunk " << size);
        REQUIRE(same_bits(whole, joined));
      }
    }
  }
}

TEST_CASE("batching, thread counts and block placement do not change a bit") {
  for (const auto& [level, type] : levels_and_types()) {
    const Shape shape{6, 2, 64, type};
    Numbers numbers(4);
    const Sequence a(shape, 1300, numbers), b(shape, 37, numbers), c(shape, 200, numbers);
    const std::vector<Chunk> chunks = {{&a, 1299, 1300}, {&b, 0, 37}, {&c, 150, 200}, {&c, 77, 78}};
    std::vector<float> alone;
    OpsRig one(1, level);
    for (const Chunk& chunk : chunks) {
      const std::vector<float> part = attend(one, shape, {chunk});
      alone.insert(alone.end(), part.begin(), part.end());
    }
    for (int threads : {1, 2, 3}) {
      OpsRig rig(threads, level);
      CHECK(same_bits(alone, attend(rig, shape, chunks, 1)));
      CHECK(same_bits(alone, attend(rig, shape, chunks, 2)));
      // One long decode: split by partition when there are several threads.
      const std::vector<float> decode = attend(rig, shape, {chunks[0]});
      CHECK(std::memcmp(decode.data(), alone.data(), decode.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("a step that only decodes gives each sequence the bits it has alone") {
  for (CpuLevel level : machine_levels()) {
    for (int window : {0, 90}) {
      const Shape shape{6, 2, 64, DType::f16, window};
      Numbers numbers(11);
      std::vector<Sequence> sequences;
      for (int length : {700, 1, 64, 65, 17, 300, 256, 257, 130}) sequences.emplace_back(shape, length, numbers);
      std::vector<Chunk> chunks;
      std::vector<float> alone;
      OpsRig one(1, level);
      for (const Sequence& sequence : sequences) {
        chunks.push_back({&sequence, sequence.length - 1, sequence.length});
        const std::vector<float> row = attend(one, shape, {chunks.back()});
        alone.insert(alone.end(), row.begin(), row.end());
        CHECK(worst_error(shape, chunks.back(), row, 1) < kTolerance);
      }
      for (int threads : {1, 2, 3}) {
        OpsRig rig(threads, level);
        CHECK(same_bits(alone, attend(rig, shape, chunks)));
      }
    }
  }
}

TEST_CASE("long contexts split by partition keep windows and chunks bit-equal") {
  for (const auto& [level, type] : levels_and_types()) {
    for (int window : {0, 300, 700}) {
      const Shape shape{2, 1, 32, type, window};
      Numbers numbers(9);
      const Sequence sequence(shape, 2100, numbers);
      OpsRig one(1, level), three(3, level);
      const std::vector<float> whole = attend(one, shape, {{&sequence, 1990, 2100}});
      std::vector<float> joined;
      for (int t = 1990; t < 2100; ++t) {
        const std::vector<float> row = attend(three, shape, {{&sequence, t, t + 1}});
        joined.insert(joined.end(), row.begin(), row.end());
      }
      CHECK(same_bits(whole, joined));
      CHECK(worst_error(shape, {&sequence, 1990, 2100}, joined, 50) < kTolerance);
    }
  }
}

TEST_CASE("a NaN in one sequence stays in it") {
  OpsRig rig(2, best_cpu_level());
  const Shape shape{4, 2, 32, DType::f32};
  Numbers numbers(6);
  Sequence bad(shape, 50, numbers);
  const Sequence good(shape, 50, numbers);
  bad.k[static_cast<std::size_t>(20) * 64] = std::nanf("");
  const std::vector<float> alone = attend(rig, shape, {{&good, 0, 50}});
  const std::vector<float> both = attend(rig, shape, {{&bad, 0, 50}, {&good, 0, 50}});
  CHECK(std::memcmp(both.data() + alone.size(), alone.data(), alone.size() * sizeof(float)) == 0);
  CHECK(std::isnan(both[static_cast<std::size_t>(30) * 128]));        // sees key 20
  CHECK_FALSE(std::isnan(both[static_cast<std::size_t>(19) * 128]));  // does not
}

TEST_CASE("encoder attention sees its whole sequence and nothing else") {
  for (CpuLevel level : machine_levels()) {
    for (int dim : {8, 32, 64, 72}) {
      const int heads = 3, width = 3 * heads * dim;
      const std::vector<int> lengths = {5, 1, 130, 64};
      std::vector<std::int32_t> starts = {0};
      for (int n : lengths) starts.push_back(starts.back() + n);
      Numbers numbers(dim);
      std::vector<float> qkv = numbers.normals(static_cast<std::size_t>(starts.back()) * width);
      const auto run = [&](OpsRig& rig, int first, int count) {
        std::vector<std::int32_t> local;
        for (int s = first; s <= first + count; ++s) local.push_back(starts[s] - starts[first]);
        BatchTensors batch;
        batch.query_starts = Tensor(local.data(), DType::i32, {count + 1});
        batch.num_tokens = local.back();
        batch.num_sequences = count;
        std::vector<float> out(static_cast<std::size_t>(local.back()) * heads * dim, -1e30f);
        EncoderAttentionArgs args;
        args.qkv = Tensor(&qkv[static_cast<std::size_t>(starts[first]) * width], DType::f32, {local.back(), width});
        args.num_heads = heads;
        args.head_dim = dim;
        args.batch = &batch;
        args.scale = 1.0f / std::sqrt(static_cast<float>(dim));
        args.out = Tensor(out.data(), DType::f32, {local.back(), heads * dim});
        cpu_encoder_attention(rig.context(), args);
        return out;
      };
      OpsRig rig(2, level), three(3, level);
      const std::vector<float> all = run(rig, 0, 4);
      CHECK(same_bits(all, run(three, 0, 4)));
      for (int s = 0; s < 4; ++s) {
        const std::vector<float> alone = run(rig, s, 1);
        CHECK(std::memcmp(alone.data(), &all[static_cast<std::size_t>(starts[s]) * heads * dim],
                          alone.size() * sizeof(float)) == 0);
        for (int t = 0; t < lengths[s]; t += 7) {
          for (int h = 0; h < heads; ++h) {
            const float* q = &qkv[static_cast<std::size_t>(starts[s] + t) * width + h * dim];
            std::vector<double> expected(dim, 0.0);
            double sum = 0;
            for (int j = 0; j < lengths[s]; ++j) {
              const float* k = &qkv[static_cast<std::size_t>(starts[s] + j) * width + (heads + h) * dim];
              double score = 0;
              for (int d = 0; d < dim; ++d) score += static_cast<double>(q[d]) * k[d];
              const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
              sum += weight;
              for (int d = 0; d < dim; ++d) expected[d] += weight * k[heads * dim + d];
            }
            for (int d = 0; d < dim; ++d) {
              CHECK(std::fabs(alone[(static_cast<std::size_t>(t) * heads + h) * dim + d] - expected[d] / sum) <
                    kTolerance);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace inferd::testing
