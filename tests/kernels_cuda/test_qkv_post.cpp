// qkv_post on the PTX interpreter against fp64.
#include <cmath>

#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"
#include "tests/ptxsim/float_formats.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

struct Case {
  int heads = 3, kv_heads = 1, head_dim = 64, rotary_dim = 64;
  RopeStyle style = RopeStyle::half;
  bool norms = false, second = false, scaled = false;
  DType kv = DType::f16;
  bool cached = true;
  int qkv_pad = 0;  // floats between rows
  int block_size = 16;
};

constexpr int kTokens = 5;
const std::vector<int> kSlots = {33, 0, 17, 47, 16};

/// The three roles' heads after the stage, in fp64: [token][head of q, k, v][head_dim].
std::vector<double> reference(const Case& c, const std::vector<float>& qkv, int stride,
                              const std::vector<float> (&norms)[2], const std::vector<float> (&tables)[2],
                              const std::vector<float>& q_scale) {
  const int all = c.heads + 2 * c.kv_heads, dim = c.head_dim, half = c.rotary_dim / 2;
  std::vector<double> out(static_cast<std::size_t>(kTokens) * all * dim);
  for (int t = 0; t < kTokens; ++t) {
    for (int h = 0; h < all; ++h) {
      double* x = &out[(static_cast<std::size_t>(t) * all + h) * dim];
      for (int i = 0; i < dim; ++i) x[i] = qkv[static_cast<std::size_t>(t * stride + h * dim + i)];
      if (h >= c.heads + c.kv_heads) continue;
      if (c.norms) {
        double squares = 0;
        for (int i = 0; i < dim; ++i) squares += x[i] * x[i];
        for (int i = 0; i < dim; ++i) {
          x[i] *= norms[h < c.heads ? 0 : 1][static_cast<std::size_t>(i)] / std::sqrt(squares / dim + 1e-6);
        }
      }
      for (int turn = 0; turn < (c.rotary_dim == 0 ? 0 : c.second ? 2 : 1); ++turn) {
        for (int i = 0; i < half; ++i) {
          const bool halves = c.style == RopeStyle::half;
          double& a = x[turn * c.rotary_dim + (halves ? i : 2 * i)];
          double& b = x[turn * c.rotary_dim + (halves ? i + half : 2 * i + 1)];
          const float* table = &tables[turn][static_cast<std::size_t>(2 * (t * half + i))];
          const double was = a;
          a = was * table[0] - b * table[1];
          b = b * table[0] + was * table[1];
        }
      }
      if (c.scaled && h < c.heads) {
        for (int i = 0; i < dim; ++i) x[i] *= q_scale[static_cast<std::size_t>(t)];
      }
    }
  }
  return out;
}

double stored(const std::vector<std::uint8_t>& bytes, std::size_t at, DType dtype) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, &bytes[4 * at], 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, &bytes[2 * at], 2);
  return dtype == DType::f16 ? ptxsim::f16_to_float(bits) : ptxsim::bf16_to_float(bits);
}

void check(int arch, const Case& c) {
  CAPTURE(arch, c.heads, c.kv_heads, c.head_dim, c.rotary_dim, int(c.style), c.norms, c.second, c.scaled, int(c.kv),
          c.cached, c.qkv_pad, c.block_size);
  SimLauncher sim(arch);
  const int all = c.heads + 2 * c.kv_heads, dim = c.head_dim, half = c.rotary_dim / 2;
  const int stride = all * dim + c.qkv_pad;
  const std::vector<float> qkv = normals(static_cast<std::size_t>(kTokens * stride), 1, 2.0f);
  const std::vector<float> norms[2] = {normals(static_cast<std::size_t>(dim), 2),
                                       normals(static_cast<std::size_t>(dim), 3)};
  std::vector<float> tables[2];
  for (int turn = 0; turn < 2; ++turn) {
    for (const float angle : normals(static_cast<std::size_t>(kTokens * half), 4u + turn, 3.0f)) {
      tables[turn].insert(tables[turn].end(), {std::cos(angle), std::sin(angle)});
    }
  }
  const std::vector<float> q_scale = {1.0f, 1.25f, 0.5f, 3.0f, 1.0f};
  QkvPostArgs args;
  args.qkv = sim.put(qkv, DType::f32, {kTokens, all * dim}, "qkv");
  args.qkv.row_stride = stride;
  args.num_heads = c.heads;
  args.num_kv_heads = c.kv_heads;
  args.head_dim = dim;
  args.rotary_dim = c.rotary_dim;
  args.style = c.style;
  if (c.norms) {
    args.q_norm = sim.put(norms[0], DType::f32, {dim}, "q_norm");
    args.k_norm = sim.put(norms[1], DType::f32, {dim}, "k_norm");
  }
  if (c.rotary_dim > 0) args.rope = sim.put(tables[0], DType::f32, {kTokens, half, 2}, "rope");
  if (c.second) args.second_rope = sim.put(tables[1], DType::f32, {kTokens, half, 2}, "second_rope");
  if (c.scaled) args.q_scale = sim.put(q_scale, DType::f32, {kTokens}, "q_scale");
  const int blocks = (48 + c.block_size - 1) / c.block_size;
  if (c.cached) {
    args.kv.keys = sim.output(c.kv, {blocks, c.kv_heads, c.block_size, dim}, "keys");
    args.kv.values = sim.output(c.kv, {blocks, c.kv_heads, c.block_size, dim}, "values");
    args.kv.block_size = c.block_size;
    args.slots = sim.put(kSlots, DType::i32, {kTokens}, "slots");
  }
  cuda::qkv_post(sim, args);

  const std::vector<double> expected = reference(c, qkv, stride, norms, tables, q_scale);
  const auto after = sim.get<float>(args.qkv.data, qkv.size());
  const std::size_t pool = static_cast<std::size_t>(blocks) * c.kv_heads * c.block_size * dim;
  const std::size_t bytes = c.kv == DType::f32 ? 4 : 2;
  std::vector<std::uint8_t> pages[2];
  if (c.cached) {
    pages[0] = sim.get<std::uint8_t>(args.kv.keys.data, pool * bytes);
    pages[1] = sim.get<std::uint8_t>(args.kv.values.data, pool * bytes);
  }
  // A norm's factor and two products are off by 2^-22 in all; f16 keeps 11 bits, bf16 8.
  const double f32_error = 5e-7;
  const double kv_error = f32_error + (c.kv == DType::f32 ? 0.0 : c.kv == DType::f16 ? 0x1p-11 : 0x1p-8);
  std::size_t kept = 0;
  for (int t = 0; t < kTokens; ++t) {
    double largest = 1.0;
    for (int i = 0; i < all * dim; ++i) {
      largest = std::max(largest, std::fabs(expected[static_cast<std::size_t>(t * all * dim + i)]));
    }
    for (int h = 0; h < all; ++h) {
      const bool is_query = h < c.heads, is_key = !is_query && h < c.heads + c.kv_heads;
      for (int i = 0; i < dim; ++i) {
        const double wanted = expected[static_cast<std::size_t>((t * all + h) * dim + i)];
        const std::size_t here = static_cast<std::size_t>(t * stride + h * dim + i);
        if (is_query || !c.cached) {
          REQUIRE(std::fabs(after[here] - wanted) < f32_error * largest);
        } else {
          REQUIRE(after[here] == qkv[here]);
          const int kv_head = h - c.heads - (is_key ? 0 : c.kv_heads);
          const int slot = kSlots[static_cast<std::size_t>(t)];
          const std::size_t at = static_cast<std::size_t>(
              ((slot / c.block_size * c.kv_heads + kv_head) * c.block_size + slot % c.block_size) * dim + i);
          const double found = stored(pages[is_key ? 0 : 1], at, c.kv);
          REQUIRE(std::fabs(found - wanted) < f32_error * largest + kv_error * std::fabs(wanted));
          ++kept;
        }
      }
    }
    for (int i = all * dim; i < stride; ++i) {
      const std::size_t here = static_cast<std::size_t>(t * stride + i);
      REQUIRE(after[here] == qkv[here]);
    }
  }
  // Nothing else was written: untouched bytes are 0xff.
  for (const auto& page : pages) {
    std::size_t written = 0;
    for (std::size_t at = 0; at < page.size(); at += bytes) {
      std::size_t untouched = 0;
      for (std::size_t b = 0; b < bytes; ++b) untouched += page[at + b] == 0xff;
      written += untouched < bytes;
    }
    REQUIRE(written == kept / 2);
  }
}

}  // namespace

TEST_CASE("qkv_post agrees with fp64 for every head width, style and cache type") {
  for (const int arch : built_archs()) {
    for (const int dim : {8, 16, 32, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
      for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
        const DType kv = dim % 3 == 0 ? DType::f32 : dim % 5 == 0 ? DType::bf16 : DType::f16;
        check(arch, {.head_dim = dim, .rotary_dim = dim, .style = style, .norms = true, .scaled = dim > 64, .kv = kv});
        check(arch,
              {.heads = 4, .kv_heads = 2, .head_dim = dim, .rotary_dim = dim / 2, .style = style, .second = true});
      }
    }
  }
}

TEST_CASE("qkv_post rotates widths that straddle vectors, and rows that are not aligned") {
  for (const int arch : built_archs()) {
    for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
      for (const DType kv : {DType::f16, DType::bf16, DType::f32}) {
        check(arch, {.head_dim = 80, .rotary_dim = 20, .style = style, .norms = true, .kv = kv});
        check(arch, {.head_dim = 64, .rotary_dim = 64, .style = style, .kv = kv});
        check(arch, {.head_dim = 64, .rotary_dim = 6, .style = style, .kv = kv});
        check(arch, {.head_dim = 96, .rotary_dim = 2, .style = style, .kv = kv});
        check(arch, {.head_dim = 128, .rotary_dim = 128, .style = style, .norms = true, .kv = kv, .qkv_pad = 1});
        check(arch, {.head_dim = 256, .rotary_dim = 256, .style = style, .norms = true, .kv = kv, .qkv_pad = 1});
        check(arch, {.head_dim = 256, .rotary_dim = 128, .style = style, .second = true, .kv = kv, .qkv_pad = 1});
        check(arch, {.head_dim = 33, .rotary_dim = 32, .style = style, .norms = true, .scaled = true, .kv = kv});
        check(arch, {.head_dim = 225, .rotary_dim = 224, .style = style, .norms = true, .cached = false});
        check(arch, {.head_dim = 256, .rotary_dim = 130, .style = style, .scaled = true, .kv = kv, .qkv_pad = 2});
        check(arch, {.head_dim = 128, .rotary_dim = 64, .style = style, .kv = kv, .qkv_pad = 4, .block_size = 32});
      }
    }
  }
}

TEST_CASE("qkv_post does each of its parts alone") {
  for (const int arch : built_archs()) {
    for (const int dim : {32, 128}) {
      for (const int heads : {1, 4, 5}) {
        check(arch, {.heads = heads, .head_dim = dim, .rotary_dim = 0});  // only the cache
        check(arch, {.heads = heads, .head_dim = dim, .rotary_dim = 0, .norms = true, .cached = false});
        check(arch, {.heads = heads, .head_dim = dim, .rotary_dim = 0, .scaled = true, .cached = false});
        check(arch, {.heads = heads, .head_dim = dim, .rotary_dim = dim, .cached = false});
        check(arch, {.heads = heads, .head_dim = dim, .rotary_dim = 0, .cached = false});  // nothing at all
      }
    }
  }
}

TEST_CASE("qkv_post keeps nothing of a row of padding") {
  for (const int arch : built_archs()) {
    SimLauncher sim(arch);
    QkvPostArgs args;
    args.qkv = sim.put(normals(2 * 3 * 32, 7), DType::f32, {2, 3 * 32}, "qkv");
    args.num_heads = args.num_kv_heads = 1;
    args.head_dim = 32;
    args.kv.keys = sim.output(DType::f16, {1, 1, 16, 32}, "keys");
    args.kv.values = sim.output(DType::f16, {1, 1, 16, 32}, "values");
    args.slots = sim.put(std::vector<int>{-1, 3}, DType::i32, {2}, "slots");
    cuda::qkv_post(sim, args);
    const auto keys = sim.get<std::uint16_t>(args.kv.keys.data, 16 * 32);
    for (std::size_t i = 0; i < keys.size(); ++i) REQUIRE((keys[i] == 0xffff) == (i / 32 != 3));
  }
}

TEST_CASE("qkv_post's rows do not depend on the other rows") {
  for (const int arch : built_archs()) {
    const std::vector<float> qkv = normals(4 * 3 * 96, 9), norm = normals(96, 10), table = normals(4 * 96, 11);
    const auto run = [&](int first, int count) {
      SimLauncher sim(arch, 0, 1);
      QkvPostArgs args;
      args.qkv = sim.put(std::vector<float>(qkv.begin() + first * 288, qkv.begin() + (first + count) * 288), DType::f32,
                         {count, 288}, "qkv");
      args.num_heads = args.num_kv_heads = 1;
      args.head_dim = args.rotary_dim = 96;
      args.q_norm = args.k_norm = sim.put(norm, DType::f32, {96}, "norm");
      args.rope = sim.put(std::vector<float>(table.begin() + first * 96, table.begin() + (first + count) * 96),
                          DType::f32, {count, 48, 2}, "rope");
      cuda::qkv_post(sim, args);
      return sim.get<float>(args.qkv.data, static_cast<std::size_t>(count) * 288);
    };
    const auto all = run(0, 4);
    for (int row = 0; row < 4; ++row) {
      const auto alone = run(row, 1);
      REQUIRE(std::memcmp(alone.data(), &all[static_cast<std::size_t>(row) * 288], 288 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("qkv_post was run whole") {
  CHECK(uncovered(cuda::Kernel::qkv_post_4) == "");
  CHECK(uncovered(cuda::Kernel::qkv_post_2) == "");
  CHECK(uncovered(cuda::Kernel::qkv_post_1) == "");
}
