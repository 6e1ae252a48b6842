// f32 and f64 arithmetic: PTX ISA 9.7.3. Results that are NaN are the canonical NaN in f32.
#include <cfenv>
#include <cmath>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
struct Add {
  T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct Sub {
  T operator()(T a, T b) const { return a - b; }
};
template <class T>
struct Mul {
  T operator()(T a, T b) const { return a * b; }
};
template <class T>
struct Div {
  T operator()(T a, T b) const { return a / b; }
};
template <class T>
struct Fma {
  T operator()(T a, T b, T c) const { return std::fma(a, b, c); }
};
template <class T>
struct Neg {
  T operator()(T a) const { return -a; }
};
template <class T>
struct Abs {
  T operator()(T a) const { return std::fabs(a); }
};
// One NaN: the other operand. -0 is less than +0.
template <class T>
struct Min {
  T operator()(T a, T b) const { return a != a ? b : b != b ? a : a < b || (a == b && std::signbit(a)) ? a : b; }
};
template <class T>
struct Max {
  T operator()(T a, T b) const { return a != a ? b : b != b ? a : a > b || (a == b && !std::signbit(a)) ? a : b; }
};
template <class T>
struct MinNan {
  T operator()(T a, T b) const { return a != a ? a : b != b ? b : Min<T>()(a, b); }
};
template <class T>
struct MaxNan {
  T operator()(T a, T b) const { return a != a ? a : b != b ? b : Max<T>()(a, b); }
};
// copysign d, a, b: the sign of a, the magnitude of b.
template <class T>
struct CopySign {
  T operator()(T a, T b) const { return std::copysign(b, a); }
};

template <class T>
T canonical(T v) {
  if constexpr (sizeof(T) == 4) return v != v ? std::bit_cast<float>(kNanF32) : v;
  return v;
}

// F with canonical NaN; the second form flushes subnormals and clamps to [0, 1] as .ftz and .sat say.
template <class T, class F>
struct Canonical {
  template <class... A>
  T operator()(A... a) const {
    return canonical<T>(F()(a...));
  }
};
template <class F, bool kFlush, bool kSaturate>
struct Modified {
  template <class... A>
  float operator()(A... a) const {
    float v = kFlush ? flush_subnormal(F()(flush_subnormal(a)...)) : F()(a...);
    if (kSaturate) v = v > 0 ? std::fmin(v, 1.0f) : 0.0f;  // NaN and -0 become +0
    return canonical(v);
  }
};

template <class T, class F, int kOperands>
constexpr Handler handler() {
  if constexpr (kOperands == 1)
    return run_unary<T, T, F>;
  else if constexpr (kOperands == 2)
    return run_binary<T, T, F>;
  else
    return run_ternary<T, T, F>;
}

template <template <class> class F, int kOperands>
Handler nearest(const Opcode& op) {
  if (op.type() == Type::f64) return op.has("sat") ? nullptr : handler<double, F<double>, kOperands>();
  const bool flush = op.has("ftz"), saturate = op.has("sat");
  if (flush && saturate) return handler<float, Modified<F<float>, true, true>, kOperands>();
  if (flush) return handler<float, Modified<F<float>, true, false>, kOperands>();
  if (saturate) return handler<float, Modified<F<float>, false, true>, kOperands>();
  return handler<float, Canonical<float, F<float>>, kOperands>();
}

// neg and abs touch the sign bit only, NaN included.
template <template <class> class F>
Handler sign_only(const Opcode& op) {
  if (op.type() == Type::f64) return run_unary<double, double, F<double>>;
  return op.has("ftz") ? run_unary<float, float, Modified<F<float>, true, false>> : run_unary<float, float, F<float>>;
}

// Directed rounding: the host's, lane by lane. The volatile operands keep the operation between the two switches.
enum class Directed { add, subtract, multiply, divide, fma };

template <class T>
void run_directed(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const auto* b = RegisterOf<T>::lanes(w, i[2]);
  const auto* c = i.operands.size() > 3 ? RegisterOf<T>::lanes(w, i[3]) : b;
  const Directed kind = Directed(i.variant[0]);
  const bool flush = i.variant[2] != 0, saturate = i.variant[3] != 0;
  std::fesetround(i.variant[1]);
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    volatile T x = RegisterOf<T>::get(a[l]), y = RegisterOf<T>::get(b[l]), z = RegisterOf<T>::get(c[l]), r = 0;
    if (flush) {
      x = T(flush_subnormal(float(x)));
      y = T(flush_subnormal(float(y)));
      z = T(flush_subnormal(float(z)));
    }
    switch (kind) {
      case Directed::add:
        r = x + y;
        break;
      case Directed::subtract:
        r = x - y;
        break;
      case Directed::multiply:
        r = x * y;
        break;
      case Directed::divide:
        r = x / y;
        break;
      case Directed::fma:
        r = std::fma(x, y, z);
        break;
    }
    if (flush) r = T(flush_subnormal(float(r)));
    if (saturate) r = r > 0 ? (r < 1 ? T(r) : T(1)) : T(0);
    d[l] = RegisterOf<T>::put(canonical<T>(r));
  }
  std::fesetround(FE_TONEAREST);
}

Handler directed(Instruction& ins, Directed kind) {
  const Opcode& op = ins.opcode;
  const int mode = op.has("rz") ? FE_TOWARDZERO : op.has("rm") ? FE_DOWNWARD : FE_UPWARD;
  ins.variant = {int(kind), mode, op.has("ftz"), op.has("sat")};
  return op.type() == Type::f64 ? run_directed<double> : run_directed<float>;
}

Handler choose(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const bool rounds = op.has("rz") || op.has("rm") || op.has("rp");
  if (op.has("xorsign") || op.has("relu")) return nullptr;
  if (root == "add") return rounds ? directed(ins, Directed::add) : nearest<Add, 2>(op);
  if (root == "sub") return rounds ? directed(ins, Directed::subtract) : nearest<Sub, 2>(op);
  if (root == "mul") return rounds ? directed(ins, Directed::multiply) : nearest<Mul, 2>(op);
  if (root == "div") return rounds ? directed(ins, Directed::divide) : nearest<Div, 2>(op);  // approx and full too
  if (root == "fma" || root == "mad") return rounds ? directed(ins, Directed::fma) : nearest<Fma, 3>(op);
  if (root == "min") return op.has("NaN") ? nearest<MinNan, 2>(op) : nearest<Min, 2>(op);
  if (root == "max") return op.has("NaN") ? nearest<MaxNan, 2>(op) : nearest<Max, 2>(op);
  if (root == "neg") return sign_only<Neg>(op);
  if (root == "abs") return sign_only<Abs>(op);
  if (root == "copysign") {
    return op.type() == Type::f64 ? run_binary<double, double, CopySign<double>>
                                  : run_binary<float, float, CopySign<float>>;
  }
  return nullptr;
}

// testp.finite, .infinite, .number, .notanumber, .normal, .subnormal
template <class T>
bool test(int what, T v) {
  switch (what) {
    case 0:
      return std::isfinite(v);
    case 1:
      return std::isinf(v);
    case 2:
      return !std::isnan(v);
    case 3:
      return std::isnan(v);
    case 4:
      return std::isnormal(v);
    default:
      return std::fpclassify(v) == FP_SUBNORMAL;
  }
}

template <class T>
void run_testp(Warp& w, const Instruction& i, LaneMask m) {
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  LaneMask result = 0;
  for (LaneMask rest = m; rest != 0; rest &= rest - 1) {
    const int l = std::countr_zero(rest);
    result |= LaneMask{test(i.variant[0], RegisterOf<T>::get(a[l]))} << l;
  }
  w.set_predicate(i[0], result, m);
}

Handler testp(Instruction& ins) {
  static constexpr std::string_view names[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  for (int what = 0; what < 6; ++what) {
    ins.variant[0] = what;
    if (ins.opcode.has(names[what])) return ins.opcode.type() == Type::f64 ? run_testp<double> : run_testp<float>;
  }
  return nullptr;
}

}  // namespace

void select_float_arithmetic(Instruction& ins) {
  const std::string& root = ins.opcode.root();
  const bool one = root == "neg" || root == "abs" || root == "testp";
  require_operands(ins, one ? 2 : root == "fma" || root == "mad" ? 4 : 3);
  ins.run = root == "testp" ? testp(ins) : choose(ins);
}

}  // namespace inferd::ptxsim
