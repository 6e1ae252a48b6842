// rcp, sqrt, rsqrt, ex2, lg2, sin, cos, tanh: PTX ISA 9.7.3. The .approx forms are computed as exactly as the host can:
// within the tolerance the ISA grants, but not the bits of the hardware.
#include <cfenv>
#include <cmath>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
struct Rcp {
  T operator()(T a) const { return T(1) / a; }
};
template <class T>
struct Sqrt {
  T operator()(T a) const { return std::sqrt(a); }
};
template <class T>
struct Rsqrt {
  T operator()(T a) const { return T(1.0 / std::sqrt(double(a))); }
};
template <class T>
struct Exp2 {
  T operator()(T a) const { return std::exp2(a); }
};
template <class T>
struct Log2 {
  T operator()(T a) const { return std::log2(a); }
};
template <class T>
struct Sin {
  T operator()(T a) const { return T(std::sin(double(a))); }
};
template <class T>
struct Cos {
  T operator()(T a) const { return T(std::cos(double(a))); }
};
template <class T>
struct Tanh {
  T operator()(T a) const { return std::tanh(a); }
};

template <class F, bool kFlush>
struct Checked {
  float operator()(float a) const {
    const float v = kFlush ? flush_subnormal(F()(flush_subnormal(a))) : F()(a);
    return v != v ? std::bit_cast<float>(kNanF32) : v;
  }
};

template <template <class> class F>
Handler by_type(const Opcode& op) {
  if (op.type() == Type::f64) return run_unary<double, double, F<double>>;
  if (op.type() != Type::f32) return nullptr;
  return op.has("ftz") ? run_unary<float, float, Checked<F<float>, true>>
                       : run_unary<float, float, Checked<F<float>, false>>;
}

// rcp and sqrt with a directed rounding. variant: [0] square root, [1] the host's rounding mode, [2] .ftz
template <class T>
void run_directed(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  std::fesetround(i.variant[1]);
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    volatile T x = RegisterOf<T>::get(a[l]);
    if (i.variant[2] != 0) x = T(flush_subnormal(float(x)));
    volatile T r = i.variant[0] != 0 ? std::sqrt(x) : T(1) / x;
    if (i.variant[2] != 0) r = T(flush_subnormal(float(r)));
    d[l] = RegisterOf<T>::put(sizeof(T) == 4 && r != r ? T(std::bit_cast<float>(kNanF32)) : T(r));
  }
  std::fesetround(FE_TONEAREST);
}

}  // namespace

void select_special_function(Instruction& ins) {
  require_operands(ins, 2);
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const Type t = op.type();
  if (t != Type::f32 && t != Type::f64) return select_half_arithmetic(ins);
  if (op.has("rz") || op.has("rm") || op.has("rp")) {
    const int mode = op.has("rz") ? FE_TOWARDZERO : op.has("rm") ? FE_DOWNWARD : FE_UPWARD;
    ins.variant = {root == "sqrt", mode, op.has("ftz")};
    ins.run = t == Type::f64 ? run_directed<double> : run_directed<float>;
  } else if (root == "rcp") {
    ins.run = by_type<Rcp>(op);
  } else if (root == "sqrt") {
    ins.run = by_type<Sqrt>(op);
  } else if (root == "rsqrt") {
    ins.run = by_type<Rsqrt>(op);
  } else if (t == Type::f64) {
    unknown_instruction(ins);
  } else if (root == "ex2") {
    ins.run = by_type<Exp2>(op);
  } else if (root == "lg2") {
    ins.run = by_type<Log2>(op);
  } else if (root == "sin") {
    ins.run = by_type<Sin>(op);
  } else if (root == "cos") {
    ins.run = by_type<Cos>(op);
  } else if (root == "tanh") {
    ins.run = by_type<Tanh>(op);
  }
}

}  // namespace inferd::ptxsim
