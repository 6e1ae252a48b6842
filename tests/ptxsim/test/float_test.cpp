// Float arithmetic, halves and conversions against rounding by definition: the neighbours of an exact value.
#include <cmath>
#include <limits>
#include <random>

#include "tests/catch.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;

namespace {

// A small binary format as the list of all its non-negative finite values: value(code), codes ascending.
struct Format {
  int exponent_bits, mantissa_bits;
  uint32_t codes;  // of non-negative finite values
  double value(uint32_t code) const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const uint32_t fraction = code & ((1u << mantissa_bits) - 1), exponent = code >> mantissa_bits;
    if (exponent == 0) return fraction * std::pow(2.0, 1 - bias - mantissa_bits);
    return (1.0 + fraction * std::pow(2.0, -mantissa_bits)) * std::pow(2.0, int(exponent) - bias);
  }
  int width() const { return 1 + exponent_bits + mantissa_bits; }
};
const Format kHalf{5, 10, 0x7c00}, kBrain{8, 7, 0x7f80}, kE4{4, 3, 0x7f}, kE5{5, 2, 0x7c};

// The code `exact` rounds to: the two neighbours are found by search, the mode decides. `top`: the code of infinity.
uint32_t round_by_definition(const Format& f, double exact, const std::string& mode, bool saturate = false) {
  const bool negative = std::signbit(exact);
  const double magnitude = std::fabs(exact);
  uint32_t low = 0, high = f.codes;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (f.value(middle) <= magnitude ? low : high) = middle;
  }
  const double below = f.value(low), above = f.value(low + 1);  // the value "above" the largest continues the scale
  uint32_t code = low;
  if (below != magnitude) {
    const bool up = mode == "rn"
                        ? magnitude - below > above - magnitude || (magnitude - below == above - magnitude && (low & 1))
                        : (mode == "rp" && !negative) || (mode == "rm" && negative);
    code = low + up;
  }
  if (saturate && code >= f.codes) code = f.codes - 1;
  return code | uint32_t(negative) << (f.width() - 1);
}

std::vector<float> samples() {
  std::vector<float> v = {0.0f,         1.0f,           1.5f,          65504.0f,      65519.9f,        65520.0f,
                          65536.0f,     1e-8f,          5.9604645e-8f, 2.9802322e-8f, 2.98023259e-8f,  6.1035156e-5f,
                          6.097555e-5f, 3.38953139e38f, 3.39e38f,      3.4e38f,       1.17549435e-38f, 1e-40f,
                          448.0f,       464.0f,         465.0f,        480.0f,        57344.0f,        61440.0f,
                          61439.0f,     0.00195312f,    0.0009765625f, 2048.5f,       1.00048828125f,  1.00146484375f,
                          1.00390625f,  1.01171875f};
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    const uint32_t mantissa = uint32_t(random()) & 0x7fffff, exponent = 90 + uint32_t(random()) % 60;
    v.push_back(std::bit_cast<float>(exponent << 23 | (i % 3 == 0 ? mantissa & 0x7ff000 : mantissa)));
  }
  const size_t n = v.size();
  for (size_t i = 0; i < n; ++i) v.push_back(-v[i]);
  return v;
}

// f32 rounding by definition from an exact double.
float to_float(double exact, const std::string& mode) {
  const float nearest = float(exact);
  if (mode == "rn" || double(nearest) == exact) return nearest;
  const float inf = std::numeric_limits<float>::infinity();
  const float below = double(nearest) < exact ? nearest : std::nextafterf(nearest, -inf);
  const float above = double(nearest) > exact ? nearest : std::nextafterf(nearest, inf);
  if (mode == "rm") return below;
  if (mode == "rp") return above;
  return exact > 0 ? below : above;
}

}  // namespace

TEST_CASE("f32 arithmetic in the four rounding modes") {
  std::mt19937 random(1);
  std::vector<Row> rows;
  for (int i = 0; i < 600; ++i) {
    const auto value = [&] {
      return std::bit_cast<float>(uint32_t(random()) & 0x807fffffu | (120 + uint32_t(random()) % 12) << 23);
    };
    rows.push_back({bits(value()), bits(value()), bits(value())});
  }
  for (const std::string mode : {"rn", "rz", "rm", "rp"}) {
    const auto add = evaluate_all("add." + mode + ".f32 %d, %a, %b;", rows),
               sub = evaluate_all("sub." + mode + ".f32 %d, %a, %b;", rows);
    const auto mul = evaluate_all("mul." + mode + ".f32 %d, %a, %b;", rows),
               fma = evaluate_all("fma." + mode + ".f32 %d, %a, %b, %c;", rows);
    const auto div = evaluate_all("div." + mode + ".f32 %d, %a, %b;", rows),
               rcp = evaluate_all("rcp." + mode + ".f32 %d, %a;", rows);
    const auto root = evaluate_all("abs.f32 %r0, %a; sqrt." + mode + ".f32 %d, %r0;", rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      const double a = std::bit_cast<float>(uint32_t(rows[i].a)), b = std::bit_cast<float>(uint32_t(rows[i].b)),
                   c = std::bit_cast<float>(uint32_t(rows[i].c));
      REQUIRE(add[i] == bits(to_float(a + b, mode)));  // exact in a double: exponents differ by at most 11
      REQUIRE(sub[i] == bits(to_float(a - b, mode)));
      REQUIRE(mul[i] == bits(to_float(a * b, mode)));
      // The sum has up to 49 + 24 bits; round the long double, whose error is far below what could flip a result here.
      const long double sum = static_cast<long double>(a * b) + c;
      double carried = double(sum);
      if (carried == double(float(carried)) && static_cast<long double>(carried) != sum)
        carried = std::nextafter(carried, sum > carried ? 1e300 : -1e300);
      REQUIRE(fma[i] == bits(to_float(carried, mode)));
      // Division and square root are never exactly between two floats unless exact: a double of them decides.
      REQUIRE(div[i] == bits(to_float(a / b, mode)));
      REQUIRE(rcp[i] == bits(to_float(1 / a, mode)));
      REQUIRE(root[i] == bits(to_float(std::sqrt(std::fabs(a)), mode)));
    }
  }
}

TEST_CASE("modifiers, NaN and signed zeros of f32") {
  const uint64_t nan = bits(std::nanf("")), one = bits(1.0f), tiny = bits(1e-40f), inf = bits(HUGE_VALF);
  REQUIRE(evaluate("add.f32 %d, %a, %b;", {nan, one}) == 0x7fffffff);
  REQUIRE(evaluate("sub.f32 %d, %a, %b;", {inf, inf}) == 0x7fffffff);
  REQUIRE(evaluate("add.ftz.f32 %d, %a, %b;", {tiny, 0}) == 0);
  REQUIRE(evaluate("add.f32 %d, %a, %b;", {tiny, 0}) == tiny);
  REQUIRE(evaluate("mul.sat.f32 %d, %a, %b;", {bits(3.0f), one}) == one);
  REQUIRE(evaluate("mul.sat.f32 %d, %a, %b;", {bits(-3.0f), one}) == 0);
  REQUIRE(evaluate("add.sat.f32 %d, %a, %b;", {nan, one}) == 0);
  REQUIRE(evaluate("min.f32 %d, %a, %b;", {nan, one}) == one);
  REQUIRE(evaluate("max.f32 %d, %a, %b;", {one, nan}) == one);
  REQUIRE(evaluate("max.NaN.f32 %d, %a, %b;", {one, nan}) == 0x7fffffff);
  REQUIRE(evaluate("max.f32 %d, %a, %b;", {nan, nan}) == 0x7fffffff);
  REQUIRE(evaluate("min.f32 %d, %a, %b;", {0, bits(-0.0f)}) == bits(-0.0f));
  REQUIRE(evaluate("max.f32 %d, %a, %b;", {bits(-0.0f), 0}) == 0);
  REQUIRE(evaluate("copysign.f32 %d, %a, %b;", {bits(-2.0f), one}) == bits(-1.0f));
  REQUIRE(evaluate("neg.f32 %d, %a;", {0}) == bits(-0.0f));
  REQUIRE(evaluate("mul.f64 %D, %A, %B;", {bits(3.0), bits(-0.5)}, true) == bits(-1.5));
  REQUIRE(evaluate("testp.subnormal.f32 %p, %a; selp.u32 %d, 1, 0, %p;", {tiny}) == 1);
  REQUIRE(evaluate("testp.notanumber.f32 %p, %a; selp.u32 %d, 1, 0, %p;", {nan}) == 1);
}

TEST_CASE("approximations stay within the ISA's tolerance") {
  for (float x = 0.01f; x < 60; x *= 1.07f) {
    const auto one = [&](const std::string& op) {
      return double(std::bit_cast<float>(uint32_t(evaluate(op + " %d, %a;", {bits(x)}))));
    };
    REQUIRE(std::fabs(one("rcp.approx.f32") * x - 1) < 0x1p-23);
    REQUIRE(std::fabs(one("sqrt.approx.f32") / std::sqrt(double(x)) - 1) < 0x1p-22);
    REQUIRE(std::fabs(one("rsqrt.approx.f32") * std::sqrt(double(x)) - 1) < 1.806e-7);
    REQUIRE(std::fabs(one("ex2.approx.ftz.f32") / std::exp2(double(x)) - 1) < 1.685e-7);
    REQUIRE(std::fabs(one("lg2.approx.f32") - std::log2(double(x))) <
            0x1p-22 * std::fmax(1.0, std::fabs(std::log2(double(x)))));
    REQUIRE(std::fabs(one("tanh.approx.f32") / std::tanh(double(x)) - 1) < 0x1p-11);
    REQUIRE(std::fabs(one("sin.approx.f32") - std::sin(double(x))) < 0x1p-20);
    REQUIRE(std::fabs(one("cos.approx.f32") - std::cos(double(x))) < 0x1p-20);
  }
}

TEST_CASE("cvt from f32 to the narrow formats, every rounding") {
  std::vector<Row> rows;
  for (const float v : samples()) rows.push_back({bits(v), bits(1.0f)});
  struct Narrow {
    std::string name;
    const Format& format;
    std::vector<std::string> modes;
  };
  for (const Narrow& n : {Narrow{"f16", kHalf, {"rn", "rz", "rm", "rp"}}, Narrow{"bf16", kBrain, {"rn", "rz"}}}) {
    for (const std::string& mode : n.modes) {
      const auto got = evaluate_all("cvt." + mode + "." + n.name + ".f32 %h0, %a; cvt.u32.u16 %d, %h0;", rows);
      const auto packed = evaluate_all("cvt." + mode + "." + n.name + "x2.f32 %d, %a, %b;", rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        const uint32_t want = round_by_definition(n.format, std::bit_cast<float>(uint32_t(rows[i].a)), mode);
        INFO(n.name << " " << mode << " of " << std::bit_cast<float>(uint32_t(rows[i].a)));
        if (mode == "rn" || n.name == "f16") REQUIRE(got[i] == want);
        if (mode == "rn" || mode == "rz") REQUIRE(packed[i] == (want << 16 | round_by_definition(n.format, 1.0, mode)));
      }
    }
  }
  for (const Narrow& n : {Narrow{"e4m3x2", kE4, {}}, Narrow{"e5m2x2", kE5, {}}}) {
    const auto got = evaluate_all("cvt.rn.satfinite." + n.name + ".f32 %h0, %a, %b; cvt.u32.u16 %d, %h0;", rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      const uint32_t want = round_by_definition(n.format, std::bit_cast<float>(uint32_t(rows[i].a)), "rn", true);
      REQUIRE(got[i] == (want << 8 | round_by_definition(n.format, 1.0, "rn")));
    }
  }
  REQUIRE(evaluate("cvt.rn.f16.f32 %h0, %a; cvt.u32.u16 %d, %h0;", {bits(std::nanf(""))}) == 0x7fff);
  REQUIRE(evaluate("cvt.rn.relu.f16x2.f32 %d, %a, %b;", {bits(-1.0f), bits(1.0f)}) == 0x00003c00);
  REQUIRE(evaluate("cvt.rna.tf32.f32 %d, %a;", {0x3f801000}) == 0x3f802000);
  REQUIRE(evaluate("cvt.rna.tf32.f32 %d, %a;", {0x3f800fff}) == 0x3f800000);
}

TEST_CASE("e4m3: every code and tie, both signs, saturation, and NaN, by OCP's table") {
  for (uint32_t code = 0; code < 256; ++code) {
    const uint32_t half = uint32_t(evaluate("cvt.u16.u32 %h0, %a; cvt.rn.f16x2.e4m3x2 %d, %h0;", {code << 8 | 0x38}));
    const bool nan = (code & 0x7f) == 0x7f;
    const uint32_t sign = code >> 7;
    INFO(code);
    REQUIRE((half & 0xffff) == 0x3c00);
    REQUIRE(half >> 16 == (nan ? 0x7fff : sign << 15 | round_by_definition(kHalf, kE4.value(code & 0x7f), "rn")));
  }
  std::vector<Row> rows;
  std::vector<uint32_t> want;
  const auto add = [&](double x, uint32_t code) {
    rows.push_back({bits(float(x)), bits(float(-x))});
    want.push_back(code << 8 | code | 0x80);
  };
  for (uint32_t code = 0; code + 1 < kE4.codes; ++code) {
    const auto half = float((kE4.value(code) + kE4.value(code + 1)) / 2);
    add(kE4.value(code), code);
    add(half, code + code % 2);
    add(std::nextafter(half, 0.0f), code);
    add(std::nextafter(half, 1e3f), code + 1);
  }
  for (const double large : {448.0, 463.9, 464.0, 480.0, 1e30, HUGE_VAL}) add(large, 0x7e);
  const auto got = evaluate_all("cvt.rn.satfinite.e4m3x2.f32 %h0, %a, %b; cvt.u32.u16 %d, %h0;", rows);
  for (size_t i = 0; i < rows.size(); ++i) REQUIRE(got[i] == want[i]);
  const uint64_t nan = bits(std::nanf("")), minus_nan = bits(-std::nanf(""));
  REQUIRE(evaluate("cvt.rn.satfinite.e4m3x2.f32 %h0, %a, %b; cvt.u32.u16 %d, %h0;", {nan, minus_nan}) == 0x7f7f);
}

TEST_CASE("every f16, bf16 and fp8 code widens exactly") {
  std::vector<Row> rows;
  for (uint32_t code = 0; code < 0x8000; code += 7) rows.push_back({code});
  const auto half = evaluate_all("cvt.u16.u32 %h0, %a; cvt.f32.f16 %d, %h0;", rows);
  const auto brain = evaluate_all("cvt.u16.u32 %h0, %a; cvt.f32.bf16 %d, %h0;", rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].a < kHalf.codes) REQUIRE(half[i] == bits(float(kHalf.value(uint32_t(rows[i].a)))));
    if (rows[i].a < kBrain.codes) REQUIRE(brain[i] == bits(float(kBrain.value(uint32_t(rows[i].a)))));
  }
  for (uint32_t code = 0; code < kE4.codes; ++code) {
    const auto want = [&](const Format& f) { return round_by_definition(kHalf, f.value(code), "rn"); };
    REQUIRE(evaluate("cvt.u16.u32 %h0, %a; cvt.rn.f16x2.e4m3x2 %d, %h0;", {code | 0x3800}) == (0x3c000000 | want(kE4)));
    if (code < kE5.codes) REQUIRE(evaluate("cvt.u16.u32 %h0, %a; cvt.rn.f16x2.e5m2x2 %d, %h0;", {code}) == want(kE5));
  }
}

TEST_CASE("float to integer rounds, clamps and answers NaN; integer to float rounds") {
  const std::vector<float> values = {0.0f, 0.5f, 1.5f,  2.5f,  -0.5f,  -1.5f, 2147483647.0f,
                                     3e9f, 5e9f, -3e9f, 1e20f, -1e20f, 0.99f};
  const auto integral = [](float v, const std::string& mode) {
    const double d = v;
    return mode == "rzi"   ? std::trunc(d)
           : mode == "rmi" ? std::floor(d)
           : mode == "rpi" ? std::ceil(d)
                           : std::nearbyint(d);
  };
  for (const std::string mode : {"rni", "rzi", "rmi", "rpi"}) {
    for (const float v : values) {
      const double r = integral(v, mode);
      const Row row{bits(v)};
      REQUIRE(evaluate("cvt." + mode + ".s32.f32 %d, %a;", row) ==
              uint32_t(int64_t(std::fmin(std::fmax(r, -2147483648.0), 2147483647.0))));
      REQUIRE(evaluate("cvt." + mode + ".u32.f32 %d, %a;", row) ==
              uint32_t(std::fmin(std::fmax(r, 0.0), 4294967295.0)));
      REQUIRE(evaluate("cvt." + mode + ".f32.f32 %d, %a;", row) == bits(std::copysignf(float(r), v)));
    }
  }
  const Row nan{bits(std::nanf("")), bits(std::nan(""))};
  REQUIRE(evaluate("cvt.rzi.s32.f32 %d, %a;", nan) == 0);
  REQUIRE(evaluate("cvt.rzi.s64.f32 %D, %a;", nan, true) == 0x8000000000000000);
  REQUIRE(evaluate("cvt.rzi.s32.f64 %d, %B;", nan) == 0x80000000);
  REQUIRE(evaluate("cvt.rzi.s8.f32 %d, %a;", {bits(-200.0f)}) == 0xffffff80);
  for (const std::string mode : {"rn", "rz", "rm", "rp"}) {
    for (const int64_t v : {int64_t{0}, int64_t{16777217}, int64_t{-16777217}, int64_t{16777219}, int64_t{0x7fffffff},
                            int64_t{-0x7fffffff}}) {
      REQUIRE(evaluate("cvt." + mode + ".f32.s32 %d, %a;", {uint64_t(v)}) == bits(to_float(double(v), mode)));
    }
  }
  REQUIRE(evaluate("cvt.rn.f32.u64 %d, %A;", {0xffffff8000000001}) == bits(0x1p64f));
  REQUIRE(evaluate("cvt.rz.f32.u64 %d, %A;", {0xffffff8000000001}) == bits(0xffffffp40f));
  REQUIRE(evaluate("cvt.rn.f16.s32 %h0, %a; cvt.u32.u16 %d, %h0;", {2049}) == round_by_definition(kHalf, 2049, "rn"));
}

TEST_CASE("integer conversions extend and saturate") {
  REQUIRE(evaluate("cvt.s32.s8 %d, %a;", {0x180}) == 0xffffff80);
  REQUIRE(evaluate("cvt.u32.u8 %d, %a;", {0x180}) == 0x80);
  REQUIRE(evaluate("cvt.s64.s32 %D, %a;", {0x80000000}, true) == 0xffffffff80000000);
  REQUIRE(evaluate("cvt.u64.u32 %D, %a;", {0x80000000}, true) == 0x80000000);
  REQUIRE(evaluate("cvt.sat.s8.s32 %d, %a;", {300}) == 127);
  REQUIRE(evaluate("cvt.sat.u8.s32 %d, %a;", {uint32_t(-3)}) == 0);
  REQUIRE(evaluate("cvt.sat.s32.s64 %d, %A;", {0x100000000}) == 0x7fffffff);
}

TEST_CASE("half arithmetic rounds once") {
  std::mt19937 random(3);
  std::vector<Row> rows;
  for (int i = 0; i < 1500; ++i) {
    const auto pair = [&] {
      const auto half = [&] { return (uint32_t(random()) & 0x83ff) | (8 + uint32_t(random()) % 14) << 10; };
      return half() | half() << 16;
    };
    rows.push_back({pair(), pair(), pair()});
  }
  const auto value = [](const Format& f, uint32_t code) {
    const double v = f.value(code & 0x7fff);
    return code & 0x8000 ? -v : v;
  };
  const auto add = evaluate_all("add.rn.f16x2 %d, %a, %b;", rows), mul = evaluate_all("mul.f16x2 %d, %a, %b;", rows);
  const auto fma = evaluate_all("fma.rn.f16x2 %d, %a, %b, %c;", rows),
             brain = evaluate_all("fma.rn.bf16x2 %d, %a, %b, %c;", rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (int h = 0; h < 2; ++h) {
      const uint32_t a = uint32_t(rows[i].a >> (16 * h)) & 0xffff, b = uint32_t(rows[i].b >> (16 * h)) & 0xffff,
                     c = uint32_t(rows[i].c >> (16 * h)) & 0xffff;
      const auto got = [&](const std::vector<uint64_t>& r) { return uint32_t(r[i] >> (16 * h)) & 0xffff; };
      const double x = value(kHalf, a), y = value(kHalf, b), z = value(kHalf, c);
      REQUIRE(got(add) == round_by_definition(kHalf, x + y, "rn"));
      REQUIRE(got(mul) == round_by_definition(kHalf, x * y, "rn"));
      REQUIRE(got(fma) == round_by_definition(kHalf, x * y + z, "rn"));  // at most 22 + 20 bits: exact
      // bf16: the product is exact; keep to sums that are exact in a double too
      const double p = value(kBrain, a) * value(kBrain, b), s = value(kBrain, c);
      if (p + s - p == s && p + s - s == p) REQUIRE(got(brain) == round_by_definition(kBrain, p + s, "rn"));
    }
  }
  REQUIRE(evaluate("fma.rn.relu.f16x2 %d, %a, %b, %c;", {0xbc003c00, 0x3c003c00, 0}) == 0x00003c00);
  REQUIRE(evaluate("neg.f16x2 %d, %a;", {0x3c00bc00}) == 0xbc003c00);
  REQUIRE(evaluate("max.bf16x2 %d, %a, %b;", {0x3f80bf80, 0xbf803f80}) == 0x3f803f80);
}

TEST_CASE("comparisons, also of NaN") {
  const float nan = std::nanf("");
  struct Case {
    float a, b;
  };
  for (const Case& c :
       {Case{1, 2}, Case{2, 1}, Case{1, 1}, Case{nan, 1}, Case{1, nan}, Case{nan, nan}, Case{0.0f, -0.0f}}) {
    const bool u = std::isnan(c.a) || std::isnan(c.b);
    const std::vector<std::pair<std::string, bool>> table = {{"eq", c.a == c.b},
                                                             {"ne", !u && c.a != c.b},
                                                             {"lt", c.a < c.b},
                                                             {"le", c.a <= c.b},
                                                             {"gt", c.a > c.b},
                                                             {"ge", c.a >= c.b},
                                                             {"equ", u || c.a == c.b},
                                                             {"neu", u || c.a != c.b},
                                                             {"ltu", u || c.a < c.b},
                                                             {"leu", u || c.a <= c.b},
                                                             {"gtu", u || c.a > c.b},
                                                             {"geu", u || c.a >= c.b},
                                                             {"num", !u},
                                                             {"nan", u}};
    for (const auto& [name, want] : table) {
      const Row row{bits(c.a), bits(c.b)};
      INFO(name << " " << c.a << " " << c.b);
      REQUIRE(evaluate("setp." + name + ".f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;", row) == want);
      REQUIRE(evaluate("set." + name + ".u32.f32 %d, %a, %b;", row) == (want ? 0xffffffff : 0));
      REQUIRE(evaluate("set." + name + ".f32.f32 %d, %a, %b;", row) == (want ? bits(1.0f) : 0));
    }
  }
  const std::string both = " selp.u32 %r0, 2, 0, %p; selp.u32 %r1, 1, 0, %q; or.b32 %d, %r0, %r1;";
  REQUIRE(evaluate("setp.lt.s32 %p|%q, %a, %b;" + both, {uint32_t(-1), 1}) == 2);
  REQUIRE(evaluate("setp.lt.u32 %p|%q, %a, %b;" + both, {uint32_t(-1), 1}) == 1);
  REQUIRE(evaluate("setp.eq.u32 %q, %c, 1; setp.lo.and.u32 %p, %a, %b, !%q;" + both, {1, 2, 0}) == 2);
  REQUIRE(evaluate("setp.eq.u32 %q, %c, 1; setp.hs.or.u32 %p, %a, %b, %q;" + both, {1, 2, 1}) == 3);
  REQUIRE(evaluate("setp.ne.s64 %p, %A, %B; selp.b64 %D, %A, %B, !%p;", {5, 6}, true) == 6);
  REQUIRE(evaluate("slct.u32.s32 %d, %a, %b, %c;", {7, 8, uint32_t(-1)}) == 8);
  REQUIRE(evaluate("mov.b32 {%h0, %h1}, %a; setp.lt.f16 %p, %h0, %h1; selp.u32 %d, 1, 0, %p;", {0x40003c00}) == 1);
}
