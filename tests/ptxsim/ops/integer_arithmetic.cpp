// Integer arithmetic: PTX ISA 9.7.1 and 9.7.2 (extended precision).
#include <algorithm>
#include <limits>

#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
using U = std::make_unsigned_t<T>;
template <class T>
using Wide =
    std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                       std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                                          std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

template <class T>
struct Add {
  T operator()(T a, T b) const { return T(U<T>(a) + U<T>(b)); }
};
template <class T>
struct Sub {
  T operator()(T a, T b) const { return T(U<T>(a) - U<T>(b)); }
};
template <class T>
struct MulLow {
  T operator()(T a, T b) const { return T(uint64_t(a) * uint64_t(b)); }
};
template <class T>
struct MulHigh {
  T operator()(T a, T b) const { return T((Wide<T>(a) * Wide<T>(b)) >> (8 * sizeof(T))); }
};
template <class T>
struct MadLow {
  T operator()(T a, T b, T c) const { return Add<T>()(MulLow<T>()(a, b), c); }
};
template <class T>
struct MadHigh {
  T operator()(T a, T b, T c) const { return Add<T>()(MulHigh<T>()(a, b), c); }
};
// Division by zero gives an unspecified value in PTX; all ones is what the hardware answers.
template <class T>
struct Div {
  T operator()(T a, T b) const {
    if (b == 0) return T(~T(0));
    if (std::is_signed_v<T> && b == T(-1)) return T(0 - U<T>(a));
    return T(a / b);
  }
};
template <class T>
struct Rem {
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == T(-1)) return 0;
    return T(a % b);
  }
};
template <class T>
struct Min {
  T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct Max {
  T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T>
struct Neg {
  T operator()(T a) const { return T(0 - U<T>(a)); }
};
template <class T>
struct Abs {
  T operator()(T a) const { return a < 0 ? T(0 - U<T>(a)) : a; }
};
template <class T>
struct Sad {
  T operator()(T a, T b, T c) const { return T(U<T>(c) + (a < b ? U<T>(b) - U<T>(a) : U<T>(a) - U<T>(b))); }
};
template <class T>
struct MulWide {
  Wide<T> operator()(T a, T b) const { return Wide<T>(a) * Wide<T>(b); }
};
template <class T>
struct MadWide {
  Wide<T> operator()(T a, T b, Wide<T> c) const { return Add<Wide<T>>()(MulWide<T>()(a, b), c); }
};
struct AddSaturated {
  int32_t operator()(int32_t a, int32_t b) const {
    return int32_t(std::clamp<int64_t>(int64_t{a} + b, INT32_MIN, INT32_MAX));
  }
};
struct SubSaturated {
  int32_t operator()(int32_t a, int32_t b) const {
    return int32_t(std::clamp<int64_t>(int64_t{a} - b, INT32_MIN, INT32_MAX));
  }
};
template <class T>
int64_t times24(T a, T b) {
  const auto low = [](T v) {
    return std::is_signed_v<T> ? int64_t(int32_t(uint32_t(v) << 8) >> 8) : int64_t(v & 0xffffff);
  };
  return low(a) * low(b);
}
template <class T>
struct Mul24Low {
  T operator()(T a, T b) const { return T(times24(a, b)); }
};
template <class T>
struct Mul24High {
  T operator()(T a, T b) const { return T(times24(a, b) >> 16); }
};
template <class T>
struct Mad24Low {
  T operator()(T a, T b, T c) const { return T(uint32_t(times24(a, b)) + uint32_t(c)); }
};

template <template <class> class F>
Handler unary(Type t) {
  switch (t) {
    case Type::s16:
      return run_unary<int16_t, int16_t, F<int16_t>>;
    case Type::s32:
      return run_unary<int32_t, int32_t, F<int32_t>>;
    case Type::s64:
      return run_unary<int64_t, int64_t, F<int64_t>>;
    default:
      return nullptr;
  }
}

template <template <class> class F>
Handler binary(Type t) {
  switch (t) {
    case Type::u16:
      return run_binary<uint16_t, uint16_t, F<uint16_t>>;
    case Type::s16:
      return run_binary<int16_t, int16_t, F<int16_t>>;
    case Type::u32:
      return run_binary<uint32_t, uint32_t, F<uint32_t>>;
    case Type::s32:
      return run_binary<int32_t, int32_t, F<int32_t>>;
    case Type::u64:
      return run_binary<uint64_t, uint64_t, F<uint64_t>>;
    case Type::s64:
      return run_binary<int64_t, int64_t, F<int64_t>>;
    default:
      return nullptr;
  }
}

template <template <class> class F>
Handler ternary(Type t) {
  switch (t) {
    case Type::u16:
      return run_ternary<uint16_t, uint16_t, F<uint16_t>>;
    case Type::s16:
      return run_ternary<int16_t, int16_t, F<int16_t>>;
    case Type::u32:
      return run_ternary<uint32_t, uint32_t, F<uint32_t>>;
    case Type::s32:
      return run_ternary<int32_t, int32_t, F<int32_t>>;
    case Type::u64:
      return run_ternary<uint64_t, uint64_t, F<uint64_t>>;
    case Type::s64:
      return run_ternary<int64_t, int64_t, F<int64_t>>;
    default:
      return nullptr;
  }
}

Handler mul_wide(Type t) {
  switch (t) {
    case Type::u16:
      return run_binary<uint32_t, uint16_t, MulWide<uint16_t>>;
    case Type::s16:
      return run_binary<int32_t, int16_t, MulWide<int16_t>>;
    case Type::u32:
      return run_binary<uint64_t, uint32_t, MulWide<uint32_t>>;
    case Type::s32:
      return run_binary<int64_t, int32_t, MulWide<int32_t>>;
    default:
      return nullptr;
  }
}

Handler mad_wide(Type t) {
  switch (t) {
    case Type::u16:
      return run_ternary<uint32_t, uint16_t, MadWide<uint16_t>>;
    case Type::s16:
      return run_ternary<int32_t, int16_t, MadWide<int16_t>>;
    case Type::u32:
      return run_ternary<uint64_t, uint32_t, MadWide<uint32_t>>;
    case Type::s32:
      return run_ternary<int64_t, int32_t, MadWide<int32_t>>;
    default:
      return nullptr;
  }
}

Handler multiply(const Opcode& op, Type t) {
  if (op.has("wide")) return mul_wide(t);
  if (op.has("hi")) return binary<MulHigh>(t);
  return op.has("lo") ? binary<MulLow>(t) : nullptr;
}

Handler multiply_add(const Opcode& op, Type t) {
  if (op.has("sat")) return nullptr;
  if (op.has("wide")) return mad_wide(t);
  if (op.has("hi")) return ternary<MadHigh>(t);
  return op.has("lo") ? ternary<MadLow>(t) : nullptr;
}

Handler by24(const Opcode& op, Type t) {
  const bool low = op.has("lo");
  if (op.root() == "mul24") {
    if (t == Type::u32)
      return low ? run_binary<uint32_t, uint32_t, Mul24Low<uint32_t>>
                 : run_binary<uint32_t, uint32_t, Mul24High<uint32_t>>;
    if (t == Type::s32)
      return low ? run_binary<int32_t, int32_t, Mul24Low<int32_t>> : run_binary<int32_t, int32_t, Mul24High<int32_t>>;
  } else if (low && !op.has("sat")) {
    if (t == Type::u32) return run_ternary<uint32_t, uint32_t, Mad24Low<uint32_t>>;
    if (t == Type::s32) return run_ternary<int32_t, int32_t, Mad24Low<int32_t>>;
  }
  return nullptr;
}

// Carry chains. The carry flag is a mask of lanes in the warp. variant: [0] what is added to, [1] takes carry in,
// [2] gives carry out.
enum class Chain { add, subtract, mad_low, mad_high };

template <class T>
void run_chain(Warp& w, const Instruction& i, LaneMask m) {
  const Chain kind = Chain(i.variant[0]);
  const bool carry_in = i.variant[1] != 0, carry_out = i.variant[2] != 0;
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const auto* b = RegisterOf<T>::lanes(w, i[2]);
  const auto* c = i.operands.size() > 3 ? RegisterOf<T>::lanes(w, i[3]) : nullptr;
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    const unsigned in = carry_in ? w.carry >> l & 1 : 0;
    unsigned __int128 sum = 0;
    if (kind == Chain::subtract) {
      sum = static_cast<unsigned __int128>(a[l]) - b[l] - in;
    } else if (kind == Chain::add) {
      sum = static_cast<unsigned __int128>(a[l]) + b[l] + in;
    } else {
      const unsigned __int128 product = static_cast<unsigned __int128>(a[l]) * b[l];
      sum = static_cast<unsigned __int128>(kind == Chain::mad_low ? T(product) : T(product >> (8 * sizeof(T)))) + c[l] +
            in;
    }
    const bool out = (sum >> (8 * sizeof(T)) & 1) != 0;
    d[l] = T(sum);
    if (carry_out) w.carry = (w.carry & ~(1u << l)) | uint32_t(out) << l;
  }
}

Handler chain(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  Chain kind = root.substr(0, 3) == "sub" ? Chain::subtract : Chain::add;
  if (root.substr(0, 3) == "mad") kind = op.has("hi") ? Chain::mad_high : Chain::mad_low;
  if (kind == Chain::mad_high && is_signed(op.type())) return nullptr;
  ins.variant = {int(kind), root.back() == 'c', op.has("cc")};
  return type_bits(op.type()) == 64 ? run_chain<uint64_t> : run_chain<uint32_t>;
}

// dp4a / dp2a: variant[0] a is signed, [1] b is signed, [2] dp2a: first byte of b.
int32_t extend(uint32_t value, int bits, bool is_signed_value) {
  const int up = 32 - bits;
  return is_signed_value ? int32_t(value << up) >> up : int32_t(value << up >> up);
}

void run_dp4a(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t *d = w.lanes32(i[0]), *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  const bool sa = i.variant[0] != 0, sb = i.variant[1] != 0;
  each_lane(m, [=](int l) {
    uint32_t sum = c[l];
    for (int k = 0; k < 4; ++k) sum += uint32_t(extend(a[l] >> (8 * k), 8, sa) * extend(b[l] >> (8 * k), 8, sb));
    d[l] = sum;
  });
}

void run_dp2a(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t *d = w.lanes32(i[0]), *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  const bool sa = i.variant[0] != 0, sb = i.variant[1] != 0;
  const int first = i.variant[2];
  each_lane(m, [=](int l) {
    uint32_t sum = c[l];
    for (int k = 0; k < 2; ++k) {
      sum += uint32_t(extend(a[l] >> (16 * k), 16, sa) * extend(b[l] >> (8 * (first + k)), 8, sb));
    }
    d[l] = sum;
  });
}

Handler dot_product(Instruction& ins) {
  ins.variant = {is_signed(ins.opcode.type(1)), is_signed(ins.opcode.type(0)), ins.opcode.has("hi") ? 2 : 0};
  return ins.opcode.root() == "dp4a" ? run_dp4a : run_dp2a;
}

Handler choose(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const Type t = op.type();
  if (root == "dp4a" || root == "dp2a") return dot_product(ins);
  if (op.has("cc") || root == "addc" || root == "subc" || root == "madc") return chain(ins);
  if (op.has("sat") && root != "mad24") {
    if (t != Type::s32) return nullptr;
    if (root == "add") return run_binary<int32_t, int32_t, AddSaturated>;
    return root == "sub" ? run_binary<int32_t, int32_t, SubSaturated> : nullptr;
  }
  if (root == "add") return binary<Add>(t);
  if (root == "sub") return binary<Sub>(t);
  if (root == "mul") return multiply(op, t);
  if (root == "mad") return multiply_add(op, t);
  if (root == "mul24" || root == "mad24") return by24(op, t);
  if (root == "div") return binary<Div>(t);
  if (root == "rem") return binary<Rem>(t);
  if (op.has("relu")) return nullptr;
  if (root == "min") return binary<Min>(t);
  if (root == "max") return binary<Max>(t);
  if (root == "neg") return unary<Neg>(t);
  if (root == "abs") return unary<Abs>(t);
  if (root == "sad") return ternary<Sad>(t);
  return nullptr;
}

}  // namespace

void select_integer_arithmetic(Instruction& ins) {
  const std::string& root = ins.opcode.root();
  require_operands(ins, root == "neg" || root == "abs"                            ? 2
                        : root.substr(0, 3) == "mad" || root.substr(0, 2) == "dp" ? 4
                                                                                  : 3);
  ins.run = choose(ins);
}

}  // namespace inferd::ptxsim
