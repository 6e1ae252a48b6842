// f16, bf16 and their pairs: PTX ISA 9.7.4. Computed in doubles, rounded once.
#include <cmath>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

struct F16 {
  static double get(uint32_t w) { return f16_to_float(uint16_t(w)); }
  static uint16_t put(double v) { return double_to_f16(v); }
};
struct Bf16 {
  static double get(uint32_t w) { return bf16_to_float(uint16_t(w)); }
  static uint16_t put(double v) { return double_to_bf16(v); }
};

struct Add {
  double operator()(double a, double b, double) const { return a + b; }
};
struct Sub {
  double operator()(double a, double b, double) const { return a - b; }
};
struct Mul {
  double operator()(double a, double b, double) const { return a * b; }
};
struct Fma {
  double operator()(double a, double b, double c) const { return fma_to_odd(a, b, c); }
};
struct Min {
  double operator()(double a, double b, double) const {
    return a != a ? b : b != b ? a : a < b || (a == b && std::signbit(a)) ? a : b;
  }
};
struct Max {
  double operator()(double a, double b, double) const {
    return a != a ? b : b != b ? a : a > b || (a == b && !std::signbit(a)) ? a : b;
  }
};
struct MinNan {
  double operator()(double a, double b, double) const { return a != a ? a : b != b ? b : Min()(a, b, 0); }
};
struct MaxNan {
  double operator()(double a, double b, double) const { return a != a ? a : b != b ? b : Max()(a, b, 0); }
};
struct Exp2 {
  double operator()(double a, double, double) const { return std::exp2(a); }
};
struct Tanh {
  double operator()(double a, double, double) const { return std::tanh(a); }
};

// variant: [0] .sat, [1] .relu, [2] .ftz (f16 only)
double modify(double v, const Instruction& i) {
  if (i.variant[0] != 0) v = v > 0 ? std::fmin(v, 1.0) : 0.0;
  if (i.variant[1] != 0 && v < 0) v = 0.0;
  if (i.variant[1] != 0 && v == 0) v = 0.0;
  return v;
}

double flush(double v, const Instruction& i) {
  return i.variant[2] != 0 && std::fabs(v) < 0x1p-14 ? std::copysign(0.0, v) : v;
}

template <class Format, class F, int kOperands, bool kPair>
void run_half(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t* a = w.lanes32(i[1]);
  const uint32_t* b = kOperands > 1 ? w.lanes32(i[2]) : a;
  const uint32_t* c = kOperands > 2 ? w.lanes32(i[3]) : a;
  const auto one = [&i](uint32_t x, uint32_t y, uint32_t z) {
    const double v = F()(flush(Format::get(x), i), flush(Format::get(y), i), flush(Format::get(z), i));
    return uint32_t{Format::put(flush(modify(v, i), i))};
  };
  each_lane(m, [&](int l) {
    uint32_t v = one(a[l], b[l], c[l]);
    if (kPair) v |= one(a[l] >> 16, b[l] >> 16, c[l] >> 16) << 16;
    d[l] = v;
  });
}

template <class F, int kOperands>
Handler by_type(Type t) {
  switch (t) {
    case Type::f16:
      return run_half<F16, F, kOperands, false>;
    case Type::f16x2:
      return run_half<F16, F, kOperands, true>;
    case Type::bf16:
      return run_half<Bf16, F, kOperands, false>;
    case Type::bf16x2:
      return run_half<Bf16, F, kOperands, true>;
    default:
      return nullptr;
  }
}

// neg and abs act on the sign bits; variant[3] and [4]: bits to flip and to clear.
void run_signs(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t* a = w.lanes32(i[1]);
  const uint32_t flip = uint32_t(i.variant[3]), clear = uint32_t(i.variant[4]);
  each_lane(m, [=](int l) { d[l] = (a[l] ^ flip) & ~clear; });
}

Handler signs(Instruction& ins) {
  const uint32_t bits = type_bits(ins.opcode.type()) == 32 ? 0x80008000u : 0x8000u;
  ins.variant[3] = ins.opcode.root() == "neg" ? int32_t(bits) : 0;
  ins.variant[4] = ins.opcode.root() == "abs" ? int32_t(bits) : 0;
  return run_signs;
}

Handler choose(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const Type t = op.type();
  if (op.has("xorsign") || op.has("oob") || op.type(1) == Type::f32) return nullptr;
  if (root == "add") return by_type<Add, 2>(t);
  if (root == "sub") return by_type<Sub, 2>(t);
  if (root == "mul") return by_type<Mul, 2>(t);
  if (root == "fma") return by_type<Fma, 3>(t);
  if (root == "min") return op.has("NaN") ? by_type<MinNan, 2>(t) : by_type<Min, 2>(t);
  if (root == "max") return op.has("NaN") ? by_type<MaxNan, 2>(t) : by_type<Max, 2>(t);
  if (root == "ex2") return by_type<Exp2, 1>(t);
  if (root == "tanh") return by_type<Tanh, 1>(t);
  if (root == "neg" || root == "abs") return signs(ins);
  return nullptr;
}

}  // namespace

void select_half_arithmetic(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const bool one = root == "neg" || root == "abs" || root == "ex2" || root == "tanh";
  require_operands(ins, one ? 2 : root == "fma" ? 4 : 3);
  const bool f16 = op.type() == Type::f16 || op.type() == Type::f16x2;
  ins.variant = {op.has("sat"), op.has("relu"), f16 && op.has("ftz")};
  ins.run = choose(ins);
}

}  // namespace inferd::ptxsim
