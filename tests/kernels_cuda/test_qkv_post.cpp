// qkv_post on the PTX interpreter against fp64.
#include <cmath>
#include <numeric>

#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
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
  bool shift = false;
  int block_size = 16;
  int schedules = 6;
};

/// OCP's table of e4m3 (FN): s eeee mmm, bias 7, subnormals, no infinity.
double e4m3_value(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

/// The value nearest to x.
double nearest_e4m3(double x) {
  double nearest = 0.0;
  for (int code = 0; code < 0x7f; ++code) {
    const double value = std::copysign(e4m3_value(code), x);
    if (std::fabs(value - x) < std::fabs(nearest - x)) nearest = value;
  }
  return nearest;
}

bool has_codes(DType type) { return type == DType::q8_0 || type == DType::fp8; }

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

/// A cache's memory after the stage, and which bytes of it were looked at.
struct Pages {
  std::vector<std::uint8_t> bytes;
  std::vector<bool> seen;

  void take_over(std::vector<std::uint8_t> memory) {
    bytes = std::move(memory);
    seen.resize(bytes.size());
  }
  template <typename T>
  T take(std::size_t at) {
    T value;
    std::memcpy(&value, &bytes.at(at), sizeof value);
    std::fill_n(seen.begin() + static_cast<std::ptrdiff_t>(at), sizeof value, true);
    return value;
  }
  double number(std::size_t element, DType dtype) {
    if (dtype == DType::f32) return take<float>(4 * element);
    const auto bits = take<std::uint16_t>(2 * element);
    return dtype == DType::f16 ? ptxsim::f16_to_float(bits) : ptxsim::bf16_to_float(bits);
  }
  /// Bytes that nobody wrote are 0xff.
  void check_the_rest() const {
    for (std::size_t at = 0; at < bytes.size(); ++at) HOLDS((seen[at] || bytes[at] == 0xff));
  }
};

/// A head's part of a row of pages of codes. In each run, 32 elements in q8_0 and all in fp8, the scale is the largest
/// element / 127 or 448 in f16; no code of q8_0 is off by more than half a step, none of fp8 by more than the nearest.
/// `noise`: how far f32 arithmetic may be from `wanted`.
void check_coded_row(Pages& pages, const Case& c, int slot, int kv_head, const std::vector<double>& wanted,
                     double noise) {
  const bool fp8 = c.kv == DType::fp8;
  const std::size_t dim = wanted.size(), width = fp8 ? dim : 32, runs = dim / width;
  const double top = fp8 ? 448.0 : 127.0;
  const std::size_t page =
      static_cast<std::size_t>(slot / c.block_size * c.kv_heads + kv_head) * kv_bytes(c.kv, c.block_size, c.head_dim);
  const std::size_t scales = page + static_cast<std::size_t>(c.block_size) * dim;
  const std::size_t row = static_cast<std::size_t>(slot % c.block_size);
  const auto rounded = [&](double x) { return ptxsim::f16_to_float(ptxsim::double_to_f16(x / top)); };
  for (std::size_t run = 0; run < runs; ++run) {
    const double* x = &wanted[run * width];
    double largest = 0.0;
    for (std::size_t i = 0; i < width; ++i) largest = std::max(largest, std::fabs(x[i]));
    const double scale = ptxsim::f16_to_float(pages.take<std::uint16_t>(scales + 2 * (row * runs + run)));
    HOLDS(scale >= rounded(std::max(largest - noise, 0.0)));
    HOLDS(scale <= rounded(largest + noise));
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint8_t code = pages.take<std::uint8_t>(page + row * dim + run * width + i);
      if (fp8) {
        HOLDS((code & 0x7f) != 0x7f);
        const double nearest = scale > 0.0 ? scale * nearest_e4m3(x[i] / scale) : 0.0;
        HOLDS(std::fabs(scale * e4m3_value(code) - x[i]) <=
              std::fabs(nearest - x[i]) + 2 * noise + 0x1p-20 * std::fabs(x[i]));
      } else {
        HOLDS(code != 0x80);
        // x / step in f32, up to 127, is off by 2^-17 in all.
        const double cut = std::max(std::fabs(x[i]) - 127.0 * scale, 0.0);  // where subnormal scales are coarse
        HOLDS(std::fabs(static_cast<std::int8_t>(code) * scale - x[i]) <= scale * (0.5 + 0x1p-16) + noise + cut);
      }
    }
  }
}

void check(int arch, const Case& c) {
  CAPTURE(arch, c.heads, c.kv_heads, c.head_dim, c.rotary_dim, int(c.style), c.norms, c.second, c.scaled, int(c.kv),
          c.cached, c.qkv_pad, c.shift, c.block_size);
  SimLauncher sim(arch, 0, c.schedules);
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
  // What the keys have in common, as large as biases get.
  std::vector<float> shift(static_cast<std::size_t>(c.kv_heads * dim), 0.0f);
  if (c.shift) {
    for (std::size_t i = 3; i < shift.size(); i += 7) shift[i] = 50.0f + static_cast<float>(i);
    args.k_shift = sim.put(shift, DType::f32, {c.kv_heads * dim}, "k_shift");
  }
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
  const std::size_t pool = kv_bytes(c.kv, std::int64_t{blocks} * c.kv_heads * c.block_size, dim);
  Pages pages[2];
  if (c.cached) {
    pages[0].take_over(sim.get<std::uint8_t>(args.kv.keys.data, pool));
    pages[1].take_over(sim.get<std::uint8_t>(args.kv.values.data, pool));
  }
  // A norm's factor and two products are off by 2^-22 in all; f16 keeps 11 bits, bf16 8.
  const double f32_error = 5e-7;
  const double kv_error = f32_error + (c.kv == DType::f32 ? 0.0 : c.kv == DType::f16 ? 0x1p-11 : 0x1p-8);
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
          HOLDS(std::fabs(after[here] - wanted) < f32_error * largest);
        } else {
          HOLDS(after[here] == qkv[here]);
          if (has_codes(c.kv)) continue;
          const int kv_head = h - c.heads - (is_key ? 0 : c.kv_heads);
          const int slot = kSlots[static_cast<std::size_t>(t)];
          const std::size_t at = static_cast<std::size_t>(
              ((slot / c.block_size * c.kv_heads + kv_head) * c.block_size + slot % c.block_size) * dim + i);
          const double found = pages[is_key ? 0 : 1].number(at, c.kv);
          HOLDS(std::fabs(found - wanted) < f32_error * largest + kv_error * std::fabs(wanted));
        }
      }
      if (!c.cached || is_query || !has_codes(c.kv)) continue;
      const int kv_head = h - c.heads - (is_key ? 0 : c.kv_heads);
      const auto from = expected.begin() + std::ptrdiff_t{t * all + h} * dim;
      std::vector<double> wanted(from, from + dim);
      for (std::size_t i = 0; i < wanted.size() && is_key; ++i) {
        wanted[i] -= shift[static_cast<std::size_t>(kv_head * dim) + i];
      }
      check_coded_row(pages[is_key ? 0 : 1], c, kSlots[static_cast<std::size_t>(t)], kv_head, wanted,
                      f32_error * std::max(largest, c.shift ? 50.0 + dim * c.kv_heads : 0.0));
    }
    for (int i = all * dim; i < stride; ++i) {
      const std::size_t here = static_cast<std::size_t>(t * stride + i);
      HOLDS(after[here] == qkv[here]);
    }
  }
  for (const Pages& each : pages) each.check_the_rest();
}

/// Lanes of one, two and four elements, in every style and cache.
void check_lanes(int arch, int schedules) {
  for (const auto& [dim, pad] : {std::pair(64, 1), {256, 1}, {32, 0}, {64, 0}, {96, 0}, {128, 0}, {256, 0}}) {
    for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
      for (const DType kv : {DType::f16, DType::bf16, DType::f32, DType::q8_0, DType::fp8}) {
        Case c{.heads = 3, .kv_heads = 2, .head_dim = dim, .rotary_dim = dim, .style = style, .norms = true};
        c.kv = kv;
        c.qkv_pad = pad;
        c.shift = true;
        c.schedules = schedules;
        check(arch, c);
      }
      Case c{.heads = 5, .head_dim = dim, .rotary_dim = dim / 4, .style = style};
      c.qkv_pad = pad;
      c.schedules = schedules;
      check(arch, c);
      c.rotary_dim = dim / 2;
      c.second = c.scaled = true;
      check(arch, c);
      c.cached = false;
      check(arch, c);
      c.norms = true;
      c.second = c.scaled = false;
      c.rotary_dim = 0;
      check(arch, c);
    }
  }
}

/// Heads, and what of them turns, that end in each of the slots of a lane, in memory that ends with the last head.
void check_every_slot(int arch, int schedules) {
  for (int slot = 0; slot < 8; ++slot) {
    const int dim = 32 * slot + 1;
    for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
      Case c{.heads = 2, .head_dim = dim, .rotary_dim = dim - 1, .style = style, .norms = true};
      c.kv = slot % 2 == 0 ? DType::f32 : DType::f16;
      c.schedules = schedules;
      check(arch, c);
      c.rotary_dim = dim / 4 * 2;
      c.second = dim > 1;
      c.cached = c.norms = false;
      check(arch, c);
    }
    if (slot == 0) continue;
    check(arch,
          {.heads = 2, .head_dim = dim - 1, .rotary_dim = 6, .kv = DType::q8_0, .shift = true, .schedules = schedules});
    Case fp8{.heads = 2, .head_dim = dim - 1, .rotary_dim = 6, .kv = DType::fp8, .shift = true, .schedules = schedules};
    check(arch, fp8);
    fp8.qkv_pad = 1;  // one element a lane
    check(arch, fp8);
    check(arch, {.heads = 2, .head_dim = dim + 3, .rotary_dim = 0, .norms = true, .schedules = schedules});
  }
}

/// One head's rows as they go into pages of codes: scales in f16, row by row, and the codes.
struct CodedRows {
  std::vector<std::uint16_t> scale_bits;
  std::vector<std::uint8_t> codes;
  float scale(std::size_t i) const { return ptxsim::f16_to_float(scale_bits[i]); }
  bool operator==(const CodedRows&) const = default;
};

/// As keys and as values, which come out alike.
CodedRows store(int arch, DType type, int dim, const std::vector<float>& rows, int schedules) {
  SimLauncher sim(arch, 0, schedules);
  const int tokens = static_cast<int>(rows.size()) / dim, blocks = (tokens + 15) / 16;
  std::vector<float> qkv(static_cast<std::size_t>(tokens * 3 * dim), 1.0f);
  std::vector<int> slots(static_cast<std::size_t>(tokens));
  std::iota(slots.begin(), slots.end(), 0);
  for (const int t : slots) {
    for (const int role : {1, 2}) {
      std::copy_n(rows.begin() + std::ptrdiff_t{t} * dim, dim, qkv.begin() + std::ptrdiff_t{3 * t + role} * dim);
    }
  }
  QkvPostArgs args;
  args.qkv = sim.put(qkv, DType::f32, {tokens, 3 * dim}, "qkv");
  args.num_heads = args.num_kv_heads = 1;
  args.head_dim = dim;
  args.kv.keys = sim.output(type, {blocks, 1, 16, dim}, "keys");
  args.kv.values = sim.output(type, {blocks, 1, 16, dim}, "values");
  args.slots = sim.put(slots, DType::i32, {tokens}, "slots");
  cuda::qkv_post(sim, args);
  const std::size_t page = kv_bytes(type, 16, dim), width = static_cast<std::size_t>(dim);
  const std::size_t runs = type == DType::q8_0 ? width / 32 : 1;
  CodedRows found[2];
  for (const bool value : {false, true}) {
    const Tensor& pages = value ? args.kv.values : args.kv.keys;
    const auto all = sim.get<std::uint8_t>(pages.data, static_cast<std::size_t>(blocks) * page);
    for (std::size_t t = 0; t < slots.size(); ++t) {
      const std::uint8_t* at = &all[t / 16 * page];
      for (std::size_t run = 0; run < runs; ++run) {
        std::uint16_t scale;
        std::memcpy(&scale, at + 16 * width + 2 * (t % 16 * runs + run), 2);
        found[value].scale_bits.push_back(scale);
      }
      found[value].codes.insert(found[value].codes.end(), at + t % 16 * width, at + (t % 16 + 1) * width);
    }
  }
  HOLDS(found[0] == found[1]);
  return found[0];
}

void check_odd_q8_0_runs(int arch, int schedules) {
  for (const int dim : {64, 128}) {
    const auto width = static_cast<std::size_t>(dim);
    std::vector<float> rows = normals(2 * width, 7);
    std::fill_n(rows.begin(), 32, 0.0f);
    for (std::size_t i = 32; i < 64; ++i) rows[i] *= 1e-9f;  // below the smallest scale
    rows[width + 17] = -INFINITY;
    rows[width + 32 + 5] = NAN;
    const CodedRows found = store(arch, DType::q8_0, dim, rows, schedules);
    for (std::size_t run = 0; run < 2; ++run) {
      HOLDS(found.scale(run) == 0.0f);
      HOLDS(std::isnan(found.scale(width / 32 + run)));
      for (std::size_t i = run * 32; i < run * 32 + 32; ++i)
        HOLDS((found.codes[i] == 0 && found.codes[width + i] == 0));
    }
  }
}

/// Every code, every number halfway between two, and their neighbours in f32, of both signs; a row each of a few, with
/// 448 `up` times a power of two as its largest.
void check_e4m3_rounding(int arch, int schedules) {
  std::vector<std::pair<float, int>> cases;  // number, code
  for (int code = 0; code < 0x7f; ++code) {
    const auto value = static_cast<float>(e4m3_value(code));
    cases.emplace_back(value, code);
    if (code == 0x7e) continue;
    const float half = (value + static_cast<float>(e4m3_value(code + 1))) / 2;
    cases.emplace_back(half, code % 2 == 0 ? code : code + 1);
    cases.emplace_back(std::nextafter(half, 0.0f), code);
    cases.emplace_back(std::nextafter(half, 500.0f), code + 1);
  }
  for (const int dim : {33, 64, 256}) {
    for (const int up : {0, -5, 6}) {
      std::vector<float> keys;
      std::vector<int> codes;
      for (const auto& [number, code] : cases) {
        for (const int sign : {0, 0x80}) {
          if (keys.size() % static_cast<std::size_t>(dim) == 0) {
            keys.push_back(std::ldexp(448.0f, up));
            codes.push_back(0x7e);
          }
          keys.push_back(std::ldexp(sign != 0 ? -number : number, up));
          codes.push_back(code | sign);
        }
      }
      while (keys.size() % static_cast<std::size_t>(dim) != 0) {
        keys.push_back(0.0f);
        codes.push_back(0);
      }
      const CodedRows rows = store(arch, DType::fp8, dim, keys, schedules);
      for (std::size_t r = 0; r < rows.scale_bits.size(); ++r) HOLDS(rows.scale(r) == std::ldexp(1.0f, up));
      for (std::size_t i = 0; i < codes.size(); ++i) {
        CAPTURE(arch, dim, keys[i]);
        HOLDS(int{rows.codes[i]} == codes[i]);
      }
    }
  }
}

void check_odd_fp8_rows(int arch, int schedules) {
  for (const int dim : {64, 256}) {
    const auto width = static_cast<std::size_t>(dim);
    std::vector<float> keys = normals(7 * width, 7);
    std::fill_n(keys.begin(), width, 0.0f);
    for (std::size_t i = 0; i < width; ++i) {
      keys[1 * width + i] *= 1e-9f;  // below the smallest scale
      keys[2 * width + i] *= 5e-6f;  // scales of a bit or two
    }
    keys[3 * width + 17] = -INFINITY;
    keys[4 * width + 5] = NAN;
    keys[5 * width + 6] = -3e38f;
    keys[6 * width + 1] = 70000.0f;  // beyond f16
    const CodedRows rows = store(arch, DType::fp8, dim, keys, schedules);
    for (std::size_t r = 0; r < 7; ++r) {
      const float scale = rows.scale(r);
      if (r == 3 || r == 4) {
        HOLDS(std::isnan(scale));
        continue;
      }
      HOLDS(448.0f * scale < 65520.0f);  // a finite f16
      HOLDS((scale == 0.0f) == (r < 2));
      for (std::size_t i = 0; i < width; ++i) {
        const std::uint8_t code = rows.codes[r * width + i];
        const double wanted = r < 2 ? 0.0 : std::clamp<double>(keys[r * width + i], -448.0 * scale, 448.0 * scale);
        HOLDS((code & 0x7f) != 0x7f);
        HOLDS(std::fabs(scale * e4m3_value(code) - wanted) <= 0x1.01p-4 * std::fabs(wanted) + 0x1p-10 * scale);
      }
    }
  }
}

void check_coded_pages(DType kv, std::initializer_list<int> dims, int schedules) {
  for (const int arch : built_archs()) {
    for (const int dim : dims) {
      for (const RopeStyle style : {RopeStyle::half, RopeStyle::interleaved}) {
        for (const bool shift : {false, true}) {
          Case c{
              .heads = 3, .kv_heads = 2, .head_dim = dim, .rotary_dim = dim, .style = style, .norms = true, .kv = kv};
          c.shift = shift;
          c.schedules = schedules;
          check(arch, c);
          c = {
              .head_dim = dim, .rotary_dim = dim / 2, .style = style, .kv = kv, .shift = shift, .schedules = schedules};
          check(arch, c);
        }
      }
      // One element a lane: rows that are not aligned.
      check(arch, {.head_dim = dim, .rotary_dim = 6, .kv = kv, .qkv_pad = 1, .shift = true});
      check(arch, {.head_dim = dim, .rotary_dim = 0, .kv = kv, .block_size = 32});
    }
  }
}

void check_padding(int arch, int schedules) {
  SimLauncher sim(arch, 0, schedules);
  QkvPostArgs args;
  args.qkv = sim.put(normals(2 * 3 * 32, 7), DType::f32, {2, 3 * 32}, "qkv");
  args.num_heads = args.num_kv_heads = 1;
  args.head_dim = 32;
  args.kv.keys = sim.output(DType::f16, {1, 1, 16, 32}, "keys");
  args.kv.values = sim.output(DType::f16, {1, 1, 16, 32}, "values");
  args.slots = sim.put(std::vector<int>{-1, 3}, DType::i32, {2}, "slots");
  cuda::qkv_post(sim, args);
  const auto keys = sim.get<std::uint16_t>(args.kv.keys.data, 16 * 32);
  for (std::size_t i = 0; i < keys.size(); ++i) HOLDS((keys[i] == 0xffff) == (i / 32 != 3));
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

TEST_CASE("qkv_post keeps keys and values to half a step in q8_0 pages, keys less their shift") {
  check_coded_pages(DType::q8_0, {32, 64, 96, 128, 160, 256}, 6);
  for (const int arch : built_archs()) check(arch, {.rotary_dim = 0, .shift = true});  // which other types do not read
}

TEST_CASE("qkv_post keeps keys and values in fp8 pages, each as the nearest code, keys less their shift") {
  check_coded_pages(DType::fp8, {8, 16, 32, 64, 72, 80, 96, 112, 128, 160, 256}, 2);
}

TEST_CASE("every architecture rounds to e4m3 as it is defined: to nearest, to even, in subnormals too") {
  for (const int arch : built_archs()) check_e4m3_rounding(arch, 1);
}

TEST_CASE("rows of fp8 pages that are zero, tiny, huge, infinite or no number") {
  for (const int arch : built_archs()) check_odd_fp8_rows(arch, 6);
}

TEST_CASE("every architecture writes the same fp8 pages") {
  for (const int dim : {33, 64, 128}) {
    const std::vector<float> keys = normals(static_cast<std::size_t>(100 * dim), 3, 2.0f);
    const CodedRows first = store(built_archs().front(), DType::fp8, dim, keys, 1);
    for (const int arch : built_archs()) CHECK((store(arch, DType::fp8, dim, keys, 1) == first));
  }
}

TEST_CASE("runs of q8_0 pages that are zero, tiny, infinite or no number") {
  for (const int arch : built_archs()) check_odd_q8_0_runs(arch, 6);
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

TEST_CASE("qkv_post of heads that end in each slot of a lane") {
  for (const int arch : built_archs()) check_every_slot(arch, 2);
}

TEST_CASE("qkv_post keeps nothing of a row of padding") {
  for (const int arch : built_archs()) check_padding(arch, 6);
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

TEST_CASE("faults in qkv_post are noticed") {
  const auto is_right = [] {
    const int arch = mutant_arch();
    check_padding(arch, 1);
    check_odd_q8_0_runs(arch, 1);
    check_every_slot(arch, 1);
    check_lanes(arch, 1);
    check_odd_fp8_rows(arch, 1);
    check_e4m3_rounding(arch, 1);
    return true;
  };
  CHECK(unlisted_mutants("rows", {{cuda::Kernel::qkv_post_1, is_right},
                                  {cuda::Kernel::qkv_post_2, is_right},
                                  {cuda::Kernel::qkv_post_4, is_right}}) == "");
}
