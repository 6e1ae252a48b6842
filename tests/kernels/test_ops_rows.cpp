// Norms, rotary tables, the QKV stage, gathering and pooling on the CPU against fp64.
#include "kernels/cpu/ops/level_table.h"
#include "tests/kernels/ops_harness.h"

namespace inferd::testing {
namespace {

Tensor matrix(std::vector<float>& data, std::int64_t rows, std::int64_t columns) {
  return Tensor(data.data(), DType::f32, {rows, columns});
}

TEST_CASE("norms agree with fp64 for odd widths, strides and in place") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(2, level);
    for (NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (int columns : {1, 3, 8, 15, 16, 17, 64, 100, 576, 1023}) {
        for (bool with_bias : {false, true}) {
          const int rows = 11, stride = columns + 5;
          Numbers numbers(columns);
          std::vector<float> x = numbers.normals(static_cast<std::size_t>(rows) * stride, 3.0f);
          std::vector<float> weight = numbers.normals(columns), bias = numbers.normals(columns);
          for (float& v : x) v += 2.0f;
          std::vector<float> out(static_cast<std::size_t>(rows) * columns);
          NormArgs args;
          args.kind = kind;
          args.x = matrix(x, rows, columns);
          args.x.row_stride = stride;
          args.weight = Tensor(weight.data(), DType::f32, {columns});
          if (with_bias) args.bias = Tensor(bias.data(), DType::f32, {columns});
          args.eps = 1e-5f;
          args.out = matrix(out, rows, columns);
          cpu_norm(rig.context(), args);
          for (int r = 0; r < rows; ++r) {
            double mean = 0, square = 0;
            for (int c = 0; c < columns; ++c) mean += x[static_cast<std::size_t>(r) * stride + c];
            mean = kind == NormKind::layer ? mean / columns : 0.0;
            for (int c = 0; c < columns; ++c)
              square += std::pow(x[static_cast<std::size_t>(r) * stride + c] - mean, 2.0);
            const double factor = 1.0 / std::sqrt(square / columns + 1e-5);
            for (int c = 0; c < columns; ++c) {
              const double expected = (x[static_cast<std::size_t>(r) * stride + c] - mean) * factor * weight[c] +
                                      (with_bias ? bias[c] : 0.0);
              // A width of 1 leaves only rounding of the mean, magnified by 1 / sqrt(eps).
              CHECK(std::fabs(out[static_cast<std::size_t>(r) * columns + c] - expected) <
                    2e-5 * (1 + std::fabs(expected)));
            }
          }
          if (with_bias) {  // the same rows added as a residual, in place of the bias: the same bits
            std::vector<float> sum(static_cast<std::size_t>(rows) * columns);
            for (int r = 0; r < rows; ++r) std::copy(bias.begin(), bias.end(), sum.begin() + r * columns);
            NormArgs joined = args;
            joined.bias = Tensor();
            joined.residual = joined.out = matrix(sum, rows, columns);
            cpu_norm(rig.context(), joined);
            CHECK(sum == out);
          }
          args.out = args.x;
          cpu_norm(rig.context(), args);
          for (int r = 0; r < rows; ++r) {
            CHECK(std::memcmp(&x[static_cast<std::size_t>(r) * stride], &out[static_cast<std::size_t>(r) * columns],
                              columns * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("the exponential is good to 2e-7") {
  for (CpuLevel level : machine_levels()) {
    std::vector<float> x;
    for (float v = -87.2f; v < 88.0f; v += 0.00317f) x.push_back(v);
    std::vector<float> y(x.size());
    row_kernels(level).exp(x.data(), static_cast<std::int64_t>(x.size()), y.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, std::fabs(y[i] / std::exp(static_cast<double>(x[i])) - 1));
    CHECK(worst < 2e-7);
    const float special[] = {0.0f, -0.0f, -88.0f, -1000.0f, -INFINITY, std::nanf("")};
    float out[6];
    row_kernels(level).exp(special, 6, out);
    CHECK(out[0] == 1.0f);
    CHECK(out[1] == 1.0f);
    CHECK(out[2] == 0.0f);
    CHECK(out[3] == 0.0f);
    CHECK(out[4] == 0.0f);
    CHECK(std::isnan(out[5]));
  }
}

struct QkvCase {
  int heads, kv_heads, dim, rotary;
  RopeStyle style;
  bool norms, scaled;
  DType type;
};

TEST_CASE("the QKV stage normalises, rotates and stores") {
  const std::vector<QkvCase> cases = {{4, 2, 64, 64, RopeStyle::half, false, false, DType::f16},
                                      {4, 2, 24, 24, RopeStyle::half, true, false, DType::f32},
                                      {3, 1, 80, 40, RopeStyle::interleaved, false, true, DType::bf16},
                                      {2, 2, 128, 64, RopeStyle::half, true, true, DType::f16},
                                      {4, 4, 18, 0, RopeStyle::half, false, false, DType::f16},
                                      {8, 1, 256, 256, RopeStyle::interleaved, true, false, DType::f32}};
  for (CpuLevel level : machine_levels()) {
    for (const QkvCase& c : cases) {
      OpsRig rig(2, level);
      Numbers numbers(c.dim);
      const int rows = 19, width = (c.heads + 2 * c.kv_heads) * c.dim, pairs = c.rotary / 2;
      std::vector<float> qkv = numbers.normals(static_cast<std::size_t>(rows) * width);
      qkv.back() = 1e6f;       // saturates f16
      qkv[width - 2] = 3e-7f;  // subnormal f16
      const std::vector<float> before = qkv;
      std::vector<float> q_norm = numbers.normals(c.dim), k_norm = numbers.normals(c.dim),
                         q_scale = numbers.normals(rows);
      std::vector<std::int32_t> positions(rows), slots(rows);
      PagedKv kv(8, c.kv_heads, c.dim, c.type);
      for (int t = 0; t < rows; ++t) {
        positions[t] = 1000 + 37 * t;
        slots[t] = (t * 29 + 5) % (8 * 16);
      }
      slots[4] = -1;  // its key and value go nowhere
      std::vector<float> inv_freq(std::max(1, pairs)), rope(static_cast<std::size_t>(rows) * std::max(1, c.rotary));
      for (int i = 0; i < pairs; ++i) inv_freq[i] = std::pow(10000.0f, -2.0f * i / c.rotary);
      if (pairs > 0) {
        RopeTableArgs table;
        table.positions = Tensor(positions.data(), DType::i32, {rows});
        table.inv_freq = Tensor(inv_freq.data(), DType::f32, {pairs});
        table.attention_scaling = 1.25f;
        table.out = Tensor(rope.data(), DType::f32, {rows, pairs, 2});
        cpu_rope_table(rig.context(), table);
      }
      QkvPostArgs args;
      args.qkv = matrix(qkv, rows, width);
      args.num_heads = c.heads;
      args.num_kv_heads = c.kv_heads;
      args.head_dim = c.dim;
      if (c.norms) args.q_norm = Tensor(q_norm.data(), DType::f32, {c.dim});
      if (c.norms) args.k_norm = Tensor(k_norm.data(), DType::f32, {c.dim});
      args.norm_eps = 1e-6f;
      if (pairs > 0) args.rope = Tensor(rope.data(), DType::f32, {rows, pairs, 2});
      args.rotary_dim = c.rotary;
      args.style = c.style;
      if (c.scaled) args.q_scale = Tensor(q_scale.data(), DType::f32, {rows});
      args.kv = kv.layer();
      args.slots = Tensor(slots.data(), DType::i32, {rows});
      cpu_qkv_post(rig.context(), args);

      std::size_t written = 0;
      for (int t = 0; t < rows; ++t) {
        for (int h = 0; h < c.heads + 2 * c.kv_heads; ++h) {
          std::vector<double> x(c.dim), y;
          for (int d = 0; d < c.dim; ++d) x[d] = before[static_cast<std::size_t>(t) * width + h * c.dim + d];
          const bool is_value = h >= c.heads + c.kv_heads, is_query = h < c.heads;
          if (c.norms && !is_value) {
            double square = 0;
            for (double v : x) square += v * v;
            for (int d = 0; d < c.dim; ++d) {
              x[d] *= (is_query ? q_norm[d] : k_norm[d]) / std::sqrt(square / c.dim + 1e-6);
            }
          }
          y = x;
          for (int i = 0; i < pairs && !is_value; ++i) {
            const double angle = static_cast<double>(static_cast<float>(positions[t]) * inv_freq[i]);
            const int a = c.style == RopeStyle::half ? i : 2 * i,
                      b = c.style == RopeStyle::half ? i + pairs : 2 * i + 1;
            y[a] = 1.25 * (x[a] * std::cos(angle) - x[b] * std::sin(angle));
            y[b] = 1.25 * (x[b] * std::cos(angle) + x[a] * std::sin(angle));
          }
          for (int d = 0; d < c.dim; ++d) {
            const float now = qkv[static_cast<std::size_t>(t) * width + h * c.dim + d];
            const double expected = is_query && c.scaled ? y[d] * q_scale[t] : y[d];
            REQUIRE(std::fabs(now - expected) <= 2e-6 * (4 + std::fabs(expected)));
            if (is_query || slots[t] < 0) continue;
            const int kv_head = (h - c.heads) % c.kv_heads;
            const int block = slots[t] / 16, offset = slots[t] % 16;
            const double kept = is_value ? kv_read(kv.values, c.type, kv.value_at(block, kv_head, offset, d))
                                         : kv_read(kv.keys, c.type, kv.key_at(block, kv_head, offset, d));
            const double rounded = c.type == DType::f16    ? decode_half(encode_half(now))
                                   : c.type == DType::bf16 ? decode_bfloat(encode_bfloat(now))
                                                           : now;
            REQUIRE(kept == rounded);
            ++written;
          }
        }
      }
      std::size_t poisoned = 0;
      const std::size_t total = static_cast<std::size_t>(8) * 16 * c.kv_heads * c.dim;
      for (std::size_t i = 0; i < total; ++i) {
        poisoned += std::isnan(kv_read(kv.keys, c.type, i)) + std::isnan(kv_read(kv.values, c.type, i));
      }
      CHECK(poisoned + written == 2 * total);  // nothing but the slots was touched
    }
  }
}

TEST_CASE("every half value survives a round trip through the KV store") {
  for (CpuLevel level : machine_levels()) {
    OpsRig rig(1, level);
    const int dim = 64, rows = 1024;
    std::vector<float> qkv(static_cast<std::size_t>(rows) * 3 * dim, 0.0f);
    for (int i = 0; i < rows * dim; ++i) {  // every half bit pattern once, as a value
      qkv[static_cast<std::size_t>(i / dim) * 3 * dim + 2 * dim + i % dim] =
          static_cast<float>(decode_half(static_cast<std::uint16_t>(i)));
    }
    PagedKv kv(64, 1, dim, DType::f16);
    std::vector<std::int32_t> slots(rows);
    std::iota(slots.begin(), slots.end(), 0);
    QkvPostArgs args;
    args.qkv = matrix(qkv, rows, 3 * dim);
    args.num_heads = args.num_kv_heads = 1;
    args.head_dim = dim;
    args.kv = kv.layer();
    args.slots = Tensor(slots.data(), DType::i32, {rows});
    cpu_qkv_post(rig.context(), args);
    for (int i = 0; i < rows * dim; ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, &kv.values[static_cast<std::size_t>(i) * 2], 2);
      const std::uint16_t infinity_as_largest =
          (i & 0x7fff) == 0x7c00 ? static_cast<std::uint16_t>((i & 0x8000) | 0x7bff) : 0;
      if ((i & 0x7fff) > 0x7c00) {
        REQUIRE(std::isnan(decode_half(bits)));
      } else {
        REQUIRE(bits == (infinity_as_largest ? infinity_as_largest : static_cast<std::uint16_t>(i)));
      }
    }
  }
}

TEST_CASE("gathering and pooling") {
  OpsRig rig(2, best_cpu_level());
  const int rows = 23, columns = 131;
  Numbers numbers(1);
  std::vector<float> x = numbers.normals(static_cast<std::size_t>(rows) * columns);
  std::vector<std::int32_t> ids = {22, 0, 7, 7, 1};
  std::vector<float> gathered(ids.size() * columns);
  GatherRowsArgs gather;
  gather.x = matrix(x, rows, columns);
  gather.rows = Tensor(ids.data(), DType::i32, {5});
  gather.out = matrix(gathered, 5, columns);
  cpu_gather_rows(rig.context(), gather);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    CHECK(std::memcmp(&gathered[i * columns], &x[static_cast<std::size_t>(ids[i]) * columns], columns * 4) == 0);
  }

  std::vector<std::int32_t> starts = {0, 1, 9, 23};
  BatchTensors batch;
  batch.query_starts = Tensor(starts.data(), DType::i32, {4});
  batch.num_sequences = 3;
  batch.num_tokens = rows;
  for (PoolingKind kind : {PoolingKind::mean, PoolingKind::cls, PoolingKind::last, PoolingKind::max}) {
    for (bool normalize : {false, true}) {
      std::vector<float> out(3 * columns);
      PoolArgs args;
      args.x = matrix(x, rows, columns);
      args.batch = &batch;
      args.kind = kind;
      args.normalize = normalize;
      args.out = matrix(out, 3, columns);
      cpu_pool(rig.context(), args);
      for (int s = 0; s < 3; ++s) {
        std::vector<double> expected(columns);
        double square = 0;
        for (int c = 0; c < columns; ++c) {
          double sum = 0, largest = -1e30;
          for (int r = starts[s]; r < starts[s + 1]; ++r) {
            sum += x[static_cast<std::size_t>(r) * columns + c];
            largest = std::max<double>(largest, x[static_cast<std::size_t>(r) * columns + c]);
          }
          expected[c] = kind == PoolingKind::mean  ? sum / (starts[s + 1] - starts[s])
                        : kind == PoolingKind::max ? largest
                        : kind == PoolingKind::cls ? x[static_cast<std::size_t>(starts[s]) * columns + c]
                                                   : x[static_cast<std::size_t>(starts[s + 1] - 1) * columns + c];
          square += expected[c] * expected[c];
        }
        for (int c = 0; c < columns; ++c) {
          CHECK(out[s * columns + c] == Approx(expected[c] / (normalize ? std::sqrt(square) : 1.0)).epsilon(1e-6));
        }
      }
    }
  }
  // A zero vector normalises to zero, not NaN.
  std::fill(x.begin(), x.end(), 0.0f);
  std::vector<float> out(3 * columns, 1.0f);
  PoolArgs args;
  args.x = matrix(x, rows, columns);
  args.batch = &batch;
  args.normalize = true;
  args.out = matrix(out, 3, columns);
  cpu_pool(rig.context(), args);
  CHECK(out[5] == 0.0f);
}

TEST_CASE("a q8_0 cache holds keys and values to half a step, and no others change") {
  for (CpuLevel level : machine_levels()) {
    for (int dim : {32, 64, 128}) {
      OpsRig rig(2, level);
      Numbers numbers(dim);
      const int heads = 2, rows = 19, width = 3 * heads * dim;
      std::vector<float> qkv = numbers.normals(static_cast<std::size_t>(rows) * width);
      for (int d = 0; d < 32; ++d) qkv[heads * dim + d] = 0.0f;           // a key's run of zeros
      for (int d = 0; d < 32; ++d) qkv[2 * heads * dim + d] *= 1e-9f;     // below the smallest scale
      qkv[static_cast<std::size_t>(width) + heads * dim + 3] = INFINITY;  // row 1, key head 0, first run
      qkv[static_cast<std::size_t>(2) * width + 2 * heads * dim] = NAN;   // row 2, value head 0, first run
      PagedKv kv(4, heads, dim, DType::q8_0);
      std::vector<std::int32_t> slots(rows);
      for (int t = 0; t < rows; ++t) slots[t] = 21 + t;  // blocks 1 and 2
      QkvPostArgs args;
      args.qkv = matrix(qkv, rows, width);
      args.num_heads = args.num_kv_heads = heads;
      args.head_dim = dim;
      args.kv = kv.layer();
      args.slots = Tensor(slots.data(), DType::i32, {rows});
      // Steps of a run with the 400 in it would be a hundred times coarser. 5e-5: what adding it and taking it off
      // costs.
      std::vector<float> shift(static_cast<std::size_t>(heads) * dim, 0.0f);
      shift[static_cast<std::size_t>(dim) + 5] = 400.0f;
      const std::vector<float> kept_of = qkv;
      for (int t = 0; t < rows; ++t) qkv[static_cast<std::size_t>(t) * width + (heads + 1) * dim + 5] += 400.0f;
      args.k_shift = Tensor(shift.data(), DType::f32, {heads * dim});
      cpu_qkv_post(rig.context(), args);
      for (int t = 0; t < rows; ++t) {
        for (int part = 1; part <= 2; ++part) {
          for (int h = 0; h < heads; ++h) {
            const float* x = &kept_of[static_cast<std::size_t>(t) * width + (part * heads + h) * dim];
            for (int d = 0; d < dim; ++d) {
              const double kept = q8_read(kv, part == 1, slots[t] / 16, h, slots[t] % 16, d);
              if ((t == 1 && part == 1 && h == 0 && d < 32) || (t == 2 && part == 2 && h == 0 && d < 32)) {
                CHECK(std::isnan(kept));
                continue;
              }
              const double step = Q8Run(x + d / 32 * 32).scale;
              REQUIRE(std::fabs(kept - x[d]) <= std::max(step, 1e-7) * 0.5001 + 5e-5);
            }
          }
        }
      }
      PagedKv untouched(4, heads, dim, DType::q8_0);
      const std::size_t block = untouched.keys.size() / 4;
      CHECK(std::memcmp(kv.keys.data(), untouched.keys.data(), block) == 0);
      CHECK(std::memcmp(&kv.values[3 * block], &untouched.values[3 * block], block) == 0);
    }
  }
}

}  // namespace
}  // namespace inferd::testing
