// ldmatrix, stmatrix, movmatrix and mma.sync of every shape, against the index formulas the PTX ISA prints for each of
// them.
#include <cmath>
#include <functional>
#include <random>

#include "tests/catch.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;

namespace {

struct Place {
  int row, column;
};

// A shape as its section of the ISA has it: where element i of a lane's fragment lies (g = lane / 4, t = lane % 4).
struct Shape {
  std::string name, types, accumulator;
  int m, k, bits;
  std::function<Place(int g, int t, int i)> a, b;
  double (*decode)(uint32_t);
};

double half(uint32_t code) {
  const int exponent = int(code >> 10 & 31);
  const double v =
      exponent == 0 ? (code & 1023) * 0x1p-24 : (1 + (code & 1023) / 1024.0) * std::pow(2.0, exponent - 15);
  return code & 0x8000 ? -v : v;
}
double brain(uint32_t code) { return std::bit_cast<float>(code << 16); }
double tf32(uint32_t code) { return std::bit_cast<float>(code & 0xffffe000u); }
double s8(uint32_t code) { return int8_t(code); }
double u8(uint32_t code) { return code & 0xff; }
double s4(uint32_t code) { return int8_t(code << 4) >> 4; }
double e4m3(uint32_t code) {
  const int exponent = int(code >> 3 & 15);
  const double v = exponent == 0 ? (code & 7) * 0x1p-9 : (1 + (code & 7) / 8.0) * std::pow(2.0, exponent - 7);
  return code & 0x80 ? -v : v;
}
double e5m2(uint32_t code) { return half((code & 0xff) << 8); }

Place a16x16(int g, int t, int i) {
  return {i < 2 || (i >= 4 && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i < 4 ? 0 : 8)};
}
Place b16x16(int g, int t, int i) { return {t * 2 + (i & 1) + (i < 2 ? 0 : 8), g}; }
Place a8x16(int g, int t, int i) { return {i < 2 ? g : g + 8, t * 2 + (i & 1)}; }
Place b8x16(int g, int t, int i) { return {t * 2 + i, g}; }
Place a8x32(int g, int t, int i) { return {i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4}; }
Place b8x32(int g, int t, int i) { return {i == 0 ? t : t + 4, g}; }
Place a4x32(int g, int t, int i) { return {i == 0 ? g : g + 8, t}; }
Place b4x32(int g, int t, int) { return {t, g}; }
Place a32x8(int g, int t, int i) {
  return {i < 4 || (i >= 8 && i < 12) ? g : g + 8, t * 4 + (i & 3) + (i < 8 ? 0 : 16)};
}
Place b32x8(int g, int t, int i) { return {t * 4 + (i & 3) + (i < 4 ? 0 : 16), g}; }
Place a16x8(int g, int t, int i) { return {i < 4 ? g : g + 8, t * 4 + (i & 3)}; }
Place b16x8(int g, int t, int i) { return {t * 4 + i, g}; }
Place a64x4(int g, int t, int i) {
  return {i < 8 || (i >= 16 && i < 24) ? g : g + 8, t * 8 + (i & 7) + (i < 16 ? 0 : 32)};
}
Place b64x4(int g, int t, int i) { return {t * 8 + (i & 7) + (i < 8 ? 0 : 32), g}; }
Place a32x4(int g, int t, int i) { return {i < 8 ? g : g + 8, t * 8 + (i & 7)}; }
Place b32x4(int g, int t, int i) { return {t * 8 + i, g}; }
Place a8rows16x8(int g, int t, int i) { return {g, t * 4 + i}; }
Place a8rows32x4(int g, int t, int i) { return {g, t * 8 + i}; }

std::string list(const std::string& prefix, int n) {
  std::string text = "{";
  for (int i = 0; i < n; ++i) text += (i ? ", " : "") + prefix + std::to_string(i);
  return text + "}";
}

// Loads n registers of a lane from base + lane * n * 4.
std::string load(const std::string& prefix, int n, const std::string& base) {
  std::string text = "mad.wide.u32 %at, %tid, " + std::to_string(4 * n) + ", " + base + ";\n";
  for (int i = 0; i < n; ++i)
    text += "ld.global.u32 " + prefix + std::to_string(i) + ", [%at+" + std::to_string(4 * i) + "];\n";
  return text;
}

void check(const Shape& s, uint32_t seed) {
  std::mt19937 random(seed);
  const int a_registers = s.m * s.k * s.bits / 1024, b_registers = 8 * s.k * s.bits / 1024, per_register = 32 / s.bits;
  const bool half_sum = s.accumulator == "f16", integer = s.accumulator == "s32";
  const int c_registers = s.m * 8 / 32 / (half_sum ? 2 : 1);
  const auto code = [&]() -> uint32_t {  // a moderate value of the format
    if (s.decode == half) return (random() & 0x83f0) | (13 + random() % 4) << 10;
    if (s.decode == brain) return (random() & 0x807f) | (125 + random() % 5) << 7;
    if (s.decode == tf32) return (uint32_t(random()) & 0x807ff000u) | uint32_t(125 + random() % 5) << 23;
    if (s.decode == e4m3 || s.decode == e5m2) return uint32_t(random()) & 0xbb;
    return uint32_t(random()) & ((1u << s.bits) - 1);
  };
  std::vector<uint32_t> a(size_t(32 * a_registers)), b(size_t(32 * b_registers)), c(size_t(32 * c_registers));
  std::vector<double> A(size_t(s.m * s.k)), B(size_t(s.k * 8)), C(size_t(s.m * 8));
  const auto fill = [&](std::vector<uint32_t>& registers, int count, auto place, std::vector<double>& matrix,
                        int columns) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < count * per_register; ++i) {
        const uint32_t v = code();
        registers[size_t(lane * count + i / per_register)] |= (s.bits == 32 ? v : v << (i % per_register * s.bits));
        const Place p = place(lane / 4, lane % 4, i);
        matrix[size_t(p.row * columns + p.column)] = s.decode(v);
      }
    }
  };
  fill(a, a_registers, s.a, A, s.k);
  fill(b, b_registers, s.b, B, 8);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < s.m / 4; ++i) {
      const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1), v = int(random() % 64) - 32;
      C[size_t(row * 8 + column)] = v;
      if (half_sum) {
        const float f = float(v);
        const uint32_t u = bits(f);
        const uint32_t h = v == 0 ? 0 : (u >> 16 & 0x8000) | ((u >> 23 & 255) - 112) << 10 | (u >> 13 & 1023);
        c[size_t(lane * c_registers + i / 2)] |= h << (16 * (i & 1));
      } else {
        c[size_t(lane * c_registers + i)] = integer ? uint32_t(v) : bits(float(v));
      }
    }
  }
  const std::string body =
      ".reg .b32 %fa<8>, %fb<8>, %fc<4>, %fd<4>;\n" + load("%fa", a_registers, "%P0") +
      load("%fb", b_registers, "%P1") + load("%fc", c_registers, "%P2") + "mma.sync.aligned." + s.name + ".row.col." +
      s.accumulator + "." + s.types + "." + s.accumulator + " " + list("%fd", c_registers) + ", " +
      list("%fa", a_registers) + ", " + list("%fb", b_registers) + ", " + list("%fc", c_registers) + ";\n" +
      "mad.wide.u32 %at, %tid, " + std::to_string(4 * c_registers) + ", %P3;\n" + [&] {
        std::string store;
        for (int i = 0; i < c_registers; ++i)
          store += "st.global.u32 [%at+" + std::to_string(4 * i) + "], %fd" + std::to_string(i) + ";\n";
        return store;
      }();
  Module module = Module::parse(kernel_text(body));
  Memory memory;
  const auto place_in = [&](const std::vector<uint32_t>& v, const char* name) {
    const uint64_t at = memory.allocate(v.size() * 4, name);
    memory.write(at, v.data(), v.size() * 4);
    return at;
  };
  const uint64_t d = memory.allocate(c.size() * 4, "d");
  launch(module, "k", {}, {32, 1, 1}, 0, pack_parameters(place_in(a, "a"), place_in(b, "b"), place_in(c, "c"), d),
         memory);
  std::vector<uint32_t> result(c.size());
  memory.read(d, result.data(), result.size() * 4);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < s.m / 4; ++i) {
      const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1);
      double want = C[size_t(row * 8 + column)];
      for (int k = 0; k < s.k; ++k) want += A[size_t(row * s.k + k)] * B[size_t(k * 8 + column)];
      const uint32_t word = result[size_t(lane * c_registers + (half_sum ? i / 2 : i))];
      INFO(s.name << " " << s.types << " row " << row << " column " << column);
      if (integer) {
        REQUIRE(int32_t(word) == int32_t(want));
      } else if (half_sum) {
        REQUIRE(half(word >> (16 * (i & 1)) & 0xffff) == Approx(want).epsilon(0x1p-10).margin(0x1p-20));
      } else {
        REQUIRE(std::bit_cast<float>(word) == float(want));  // the sums are exact in a double
      }
    }
  }
}

}  // namespace

TEST_CASE("mma.sync of every shape multiplies what its fragments mean") {
  const Shape shapes[] = {
      {"m16n8k16", "f16.f16", "f32", 16, 16, 16, a16x16, b16x16, half},
      {"m16n8k16", "bf16.bf16", "f32", 16, 16, 16, a16x16, b16x16, brain},
      {"m16n8k16", "f16.f16", "f16", 16, 16, 16, a16x16, b16x16, half},
      {"m16n8k8", "f16.f16", "f32", 16, 8, 16, a8x16, b8x16, half},
      {"m16n8k8", "bf16.bf16", "f32", 16, 8, 16, a8x16, b8x16, brain},
      {"m16n8k8", "tf32.tf32", "f32", 16, 8, 32, a8x32, b8x32, tf32},
      {"m16n8k4", "tf32.tf32", "f32", 16, 4, 32, a4x32, b4x32, tf32},
      {"m16n8k32", "s8.s8", "s32", 16, 32, 8, a32x8, b32x8, s8},
      {"m16n8k32", "u8.u8", "s32", 16, 32, 8, a32x8, b32x8, u8},
      {"m16n8k16", "s8.s8", "s32", 16, 16, 8, a16x8, b16x8, s8},
      {"m8n8k16", "s8.s8", "s32", 8, 16, 8, a8rows16x8, b16x8, s8},
      {"m16n8k64", "s4.s4", "s32", 16, 64, 4, a64x4, b64x4, s4},
      {"m16n8k32", "s4.s4", "s32", 16, 32, 4, a32x4, b32x4, s4},
      {"m8n8k32", "s4.s4", "s32", 8, 32, 4, a8rows32x4, b32x4, s4},
      {"m16n8k32", "e4m3.e4m3", "f32", 16, 32, 8, a32x8, b32x8, e4m3},
      {"m16n8k32", "e5m2.e5m2", "f32", 16, 32, 8, a32x8, b32x8, e5m2},
  };
  for (const Shape& shape : shapes) {
    for (uint32_t seed = 0; seed < 3; ++seed) check(shape, seed);
  }
}

TEST_CASE("ldmatrix, stmatrix and movmatrix move 8x8 matrices") {
  // Element (r, c) of matrix m holds 256 m + 16 r + c; row r of matrix m stands at 128 m + 16 r.
  const std::string declarations = ".shared .align 16 .b8 tile[1024];\n";
  const std::string fill =
      "shr.u32 %r0, %tid, 3; shl.b32 %r0, %r0, 8; and.b32 %r1, %tid, 7; shl.b32 %r1, %r1, 4; or.b32 %r0, %r0, %r1; "
      "shl.b32 %r2, %tid, 4; mov.u32 %r3, 0;\n"
      "L: add.u32 %r4, %r0, %r3; cvt.u16.u32 %h0, %r4; shl.b32 %r5, %r3, 1; add.u32 %r5, %r5, %r2; st.shared.u16 "
      "[%r5], %h0; add.u32 %r3, %r3, 1; setp.lt.u32 %p, %r3, 8; @%p bra L; bar.warp.sync -1;\n";
  const std::string store = "mad.wide.u32 %at, %tid, 16, %P0; st.global.v4.u32 [%at], {%r4, %r5, %r6, %r7};";
  const auto straight = run_block(
      fill + "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r2];" + store, 32, 128, declarations);
  const auto transposed =
      run_block(fill + "ldmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 {%r4, %r5, %r6, %r7}, [%r2];" + store, 32,
                128, declarations);
  const auto moved = run_block(fill +
                                   "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r2]; mov.u32 %r5, %r6; mov.u32 "
                                   "%r7, 0; movmatrix.sync.aligned.m8n8.trans.b16 %r4, %r6;" +
                                   store,
                               32, 128, declarations);
  const auto stored = run_block(fill +
                                    "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r4, %r5}, [%r2]; bar.warp.sync -1; "
                                    "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%r2], {%r4, %r5}; bar.warp.sync "
                                    "-1; ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r6, %r7}, [%r2];" +
                                    store,
                                32, 128, declarations);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t major = lane / 4, minor = lane % 4 * 2;
    for (uint32_t m = 0; m < 4; ++m) {
      const auto element = [&](uint32_t r, uint32_t c) { return 256 * m + 16 * r + c; };
      REQUIRE(straight[lane * 4 + m] == (element(major, minor) | element(major, minor + 1) << 16));
      REQUIRE(transposed[lane * 4 + m] == (element(minor, major) | element(minor + 1, major) << 16));
    }
    REQUIRE(moved[lane * 4] == ((16 * minor + major) | (16 * (minor + 1) + major) << 16));
    REQUIRE(stored[lane * 4] == stored[lane * 4 + 2]);
    REQUIRE(stored[lane * 4 + 1] == stored[lane * 4 + 3]);
  }
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 16; @%p ret; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r2];", 32,
                       declarations) == Violation::Kind::divergence);
}
