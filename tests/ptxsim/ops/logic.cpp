// Logic and shifts: PTX ISA 9.7.8.
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
struct And {
  T operator()(T a, T b) const { return T(a & b); }
};
template <class T>
struct Or {
  T operator()(T a, T b) const { return T(a | b); }
};
template <class T>
struct Xor {
  T operator()(T a, T b) const { return T(a ^ b); }
};
template <class T>
struct Not {
  T operator()(T a) const { return T(~a); }
};
template <class T>
struct LogicalNot {
  T operator()(T a) const { return a == 0; }
};

template <template <class> class F>
Handler binary(Type t) {
  switch (type_bits(t)) {
    case 16:
      return run_binary<uint16_t, uint16_t, F<uint16_t>>;
    case 32:
      return run_binary<uint32_t, uint32_t, F<uint32_t>>;
    case 64:
      return run_binary<uint64_t, uint64_t, F<uint64_t>>;
    default:
      return nullptr;
  }
}

template <template <class> class F>
Handler unary(Type t) {
  switch (type_bits(t)) {
    case 16:
      return run_unary<uint16_t, uint16_t, F<uint16_t>>;
    case 32:
      return run_unary<uint32_t, uint32_t, F<uint32_t>>;
    case 64:
      return run_unary<uint64_t, uint64_t, F<uint64_t>>;
    default:
      return nullptr;
  }
}

template <template <class> class F>
void run_predicates(Warp& w, const Instruction& i, LaneMask m) {
  w.set_predicate(i[0], F<LaneMask>()(w.predicate(i[1]), w.predicate(i[2])), m);
}

// The shift count is a 32-bit register; counts beyond the width act as the width.
template <class T>
void run_shift_left(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const uint32_t* n = w.lanes32(i[2]);
  each_lane(m,
            [=](int l) { d[l] = n[l] >= 8 * sizeof(T) ? 0 : RegisterOf<T>::put(T(RegisterOf<T>::get(a[l]) << n[l])); });
}

template <class T>
void run_shift_right(Warp& w, const Instruction& i, LaneMask m) {
  constexpr uint32_t kLast = 8 * sizeof(T) - 1;
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const uint32_t* n = w.lanes32(i[2]);
  each_lane(m, [=](int l) {
    const T v = T(RegisterOf<T>::get(a[l]) >> (n[l] > kLast ? kLast : n[l]));
    d[l] = RegisterOf<T>::put(std::is_signed_v<T> || n[l] <= kLast ? v : T(0));
  });
}

Handler shift(const Opcode& op) {
  const Type t = op.type();
  if (op.root() == "shl") {
    return type_bits(t) == 16   ? run_shift_left<uint16_t>
           : type_bits(t) == 64 ? run_shift_left<uint64_t>
                                : run_shift_left<uint32_t>;
  }
  switch (t) {
    case Type::s16:
      return run_shift_right<int16_t>;
    case Type::s32:
      return run_shift_right<int32_t>;
    case Type::s64:
      return run_shift_right<int64_t>;
    default:
      return type_bits(t) == 16   ? run_shift_right<uint16_t>
             : type_bits(t) == 64 ? run_shift_right<uint64_t>
                                  : run_shift_right<uint32_t>;
  }
}

// shf: the 64-bit value {b, a} shifted left (upper half kept) or right (lower half kept). variant: [0] left, [1] wraps
void run_funnel_shift(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  const bool left = i.variant[0] != 0, wraps = i.variant[1] != 0;
  each_lane(m, [=](int l) {
    const uint32_t n = wraps ? c[l] & 31 : c[l] > 32 ? 32 : c[l];
    const uint64_t both = uint64_t{b[l]} << 32 | a[l];
    d[l] = left ? uint32_t((both << n) >> 32) : uint32_t(both >> n);
  });
}

// lop3: bit n of the table is the result for a, b, c = bits 2, 1, 0 of n.
void run_lop3(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  const uint32_t table = w.lanes32(i[4])[0];
  each_lane(m, [=](int l) {
    uint32_t v = 0;
    for (int n = 0; n < 8; ++n) {
      const uint32_t here = (n & 4 ? a[l] : ~a[l]) & (n & 2 ? b[l] : ~b[l]) & (n & 1 ? c[l] : ~c[l]);
      v |= (table >> n & 1) != 0 ? here : 0;
    }
    d[l] = v;
  });
}

Handler predicates(const std::string& root) {
  if (root == "and") return run_predicates<And>;
  if (root == "or") return run_predicates<Or>;
  if (root == "xor") return run_predicates<Xor>;
  if (root == "not")
    return [](Warp& w, const Instruction& i, LaneMask m) { w.set_predicate(i[0], ~w.predicate(i[1]), m); };
  return nullptr;
}

}  // namespace

void select_logic(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const Type t = op.type();
  require_operands(ins, root == "not" || root == "cnot" ? 2 : root == "lop3" ? 5 : root == "shf" ? 4 : 3);
  if (t == Type::pred) {
    ins.run = predicates(root);
  } else if (root == "and") {
    ins.run = binary<And>(t);
  } else if (root == "or") {
    ins.run = binary<Or>(t);
  } else if (root == "xor") {
    ins.run = binary<Xor>(t);
  } else if (root == "not") {
    ins.run = unary<Not>(t);
  } else if (root == "cnot") {
    ins.run = unary<LogicalNot>(t);
  } else if (root == "lop3") {
    if (op.has("and") || op.has("or")) unknown_instruction(ins);
    ins.run = run_lop3;
  } else if (root == "shf") {
    ins.variant = {op.has("l"), op.has("wrap")};
    ins.run = run_funnel_shift;
  } else {
    ins.run = shift(op);
  }
}

}  // namespace inferd::ptxsim
