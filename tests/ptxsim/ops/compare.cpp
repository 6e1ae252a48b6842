// Comparison and selection: PTX ISA 9.7.6.
#include <algorithm>
#include <array>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

struct F16Value {
  uint16_t bits;
};
struct Bf16Value {
  uint16_t bits;
};

// What a register holds, as something the host can compare.
template <class T>
struct Comparable {
  using Value = T;
  static T get(typename RegisterOf<T>::Word w) { return RegisterOf<T>::get(w); }
};
template <>
struct Comparable<F16Value> {
  using Value = float;
  static float get(uint32_t w) { return f16_to_float(uint16_t(w)); }
};
template <>
struct Comparable<Bf16Value> {
  using Value = float;
  static float get(uint32_t w) { return bf16_to_float(uint16_t(w)); }
};

enum class Compare { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };

struct CompareName {
  std::string_view name;
  Compare compare;
};
constexpr std::array kCompareNames = {
    CompareName{"eq", Compare::eq},   CompareName{"ne", Compare::ne},   CompareName{"lt", Compare::lt},
    CompareName{"le", Compare::le},   CompareName{"gt", Compare::gt},   CompareName{"ge", Compare::ge},
    CompareName{"lo", Compare::lt},   CompareName{"ls", Compare::le},   CompareName{"hi", Compare::gt},
    CompareName{"hs", Compare::ge},   CompareName{"equ", Compare::equ}, CompareName{"neu", Compare::neu},
    CompareName{"ltu", Compare::ltu}, CompareName{"leu", Compare::leu}, CompareName{"gtu", Compare::gtu},
    CompareName{"geu", Compare::geu}, CompareName{"num", Compare::num}, CompareName{"nan", Compare::nan},
};

template <Compare C, class V>
inline bool holds(V a, V b) {
  const bool unordered = a != a || b != b;
  switch (C) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return !unordered && a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    case Compare::ge:
      return a >= b;
    case Compare::equ:
      return unordered || a == b;
    case Compare::neu:
      return a != b;
    case Compare::ltu:
      return !(a >= b);
    case Compare::leu:
      return !(a > b);
    case Compare::gtu:
      return !(a <= b);
    case Compare::geu:
      return !(a < b);
    case Compare::num:
      return !unordered;
    case Compare::nan:
      return unordered;
  }
  return false;
}

// All lanes are compared; the caller keeps those it wants.
template <class T, Compare C>
LaneMask compare_lanes(Warp& w, const Operand& x, const Operand& y, bool flush) {
  using R = RegisterOf<std::conditional_t<std::is_class_v<T>, uint32_t, T>>;
  const auto* a = R::lanes(w, x);
  const auto* b = R::lanes(w, y);
  LaneMask result = 0;
  for (int l = 0; l < kWarpSize; ++l) {
    auto u = Comparable<T>::get(a[l]);
    auto v = Comparable<T>::get(b[l]);
    if constexpr (std::is_same_v<T, float>) {
      if (flush) u = flush_subnormal(u), v = flush_subnormal(v);
    }
    result |= LaneMask{holds<C>(u, v)} << l;
  }
  return result;
}

using Comparer = LaneMask (*)(Warp&, const Operand&, const Operand&, bool);

template <class T, size_t... C>
constexpr std::array<Comparer, sizeof...(C)> comparers(std::index_sequence<C...>) {
  return {compare_lanes<T, Compare(C)>...};
}

template <class T>
Comparer comparer(Compare c) {
  static constexpr auto table = comparers<T>(std::make_index_sequence<size_t(Compare::nan) + 1>());
  return table[size_t(c)];
}

Comparer comparer_of(Type t, Compare c) {
  switch (t) {
    case Type::u16:
    case Type::b16:
      return comparer<uint16_t>(c);
    case Type::s16:
      return comparer<int16_t>(c);
    case Type::u32:
    case Type::b32:
      return comparer<uint32_t>(c);
    case Type::s32:
      return comparer<int32_t>(c);
    case Type::u64:
    case Type::b64:
      return comparer<uint64_t>(c);
    case Type::s64:
      return comparer<int64_t>(c);
    case Type::f32:
      return comparer<float>(c);
    case Type::f64:
      return comparer<double>(c);
    case Type::f16:
      return comparer<F16Value>(c);
    case Type::bf16:
      return comparer<Bf16Value>(c);
    default:
      return nullptr;
  }
}

enum class Combine { none, bit_and, bit_or, bit_xor };

LaneMask combine(Combine how, LaneMask a, LaneMask b) {
  switch (how) {
    case Combine::none:
      return a;
    case Combine::bit_and:
      return a & b;
    case Combine::bit_or:
      return a | b;
    case Combine::bit_xor:
      return a ^ b;
  }
  return a;
}

// variant: [0] Compare, [1] Type of the operands, [2] Combine, [3] .ftz, [4] setp has two results / set's type of
// result
void run_setp(Warp& w, const Instruction& i, LaneMask m) {
  const size_t first = i.variant[4] != 0 ? 2 : 1;
  const Comparer compare = comparer_of(Type(i.variant[1]), Compare(i.variant[0]));
  const LaneMask r = compare(w, i[first], i[first + 1], i.variant[3] != 0);
  const Combine how = Combine(i.variant[2]);
  const LaneMask other = how != Combine::none ? w.predicate(i.operands.back()) : 0;
  w.set_predicate(i[0], combine(how, r, other), m);
  if (first == 2) w.set_predicate(i[1], combine(how, ~r, other), m);
}

void run_set(Warp& w, const Instruction& i, LaneMask m) {
  const Comparer compare = comparer_of(Type(i.variant[1]), Compare(i.variant[0]));
  LaneMask r = compare(w, i[1], i[2], i.variant[3] != 0);
  const Combine how = Combine(i.variant[2]);
  if (how != Combine::none) r = combine(how, r, w.predicate(i.operands.back()));
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t truth = uint32_t(i.variant[4]);
  each_lane(m, [=](int l) { d[l] = r >> l & 1 ? truth : 0; });
}

template <class T>
void run_selp(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto *a = RegisterOf<T>::lanes(w, i[1]), *b = RegisterOf<T>::lanes(w, i[2]);
  const LaneMask p = w.predicate(i[3]);
  each_lane(m, [=](int l) { d[l] = p >> l & 1 ? a[l] : b[l]; });
}

// slct d, a, b, c: a where c >= 0. variant[0]: c is f32
template <class T>
void run_slct(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto *a = RegisterOf<T>::lanes(w, i[1]), *b = RegisterOf<T>::lanes(w, i[2]);
  const uint32_t* c = w.lanes32(i[3]);
  const bool real = i.variant[0] != 0;
  each_lane(m, [=](int l) {
    const bool first = real ? std::bit_cast<float>(c[l]) >= 0 : int32_t(c[l]) >= 0;
    d[l] = first ? a[l] : b[l];
  });
}

void select_comparison(Instruction& ins, bool is_set) {
  const Opcode& op = ins.opcode;
  const auto name = std::find_if(kCompareNames.begin(), kCompareNames.end(),
                                 [&](const CompareName& n) { return n.name == op.words[1]; });
  if (name == kCompareNames.end() || comparer_of(op.type(), name->compare) == nullptr) unknown_instruction(ins);
  const Combine how = op.has("and")   ? Combine::bit_and
                      : op.has("or")  ? Combine::bit_or
                      : op.has("xor") ? Combine::bit_xor
                                      : Combine::none;
  const size_t plain = how == Combine::none ? 3 : 4;
  require_operands(ins, plain);
  ins.variant = {int(name->compare), int(op.type()), int(how), op.has("ftz"), ins.operands.size() > plain};
  ins.run = run_setp;
  if (!is_set) return;
  const Type result = op.type(1);
  if (result == Type::f32)
    ins.variant[4] = int32_t(std::bit_cast<uint32_t>(1.0f));
  else if (result == Type::u32 || result == Type::s32)
    ins.variant[4] = -1;
  else if (result == Type::f16)
    ins.variant[4] = 0x3c00;
  else if (result == Type::u16 || result == Type::s16)
    ins.variant[4] = 0xffff;
  else
    unknown_instruction(ins);
  ins.run = run_set;
}

}  // namespace

void select_compare(Instruction& ins) {
  const std::string& root = ins.opcode.root();
  if (root == "setp" || root == "set") return select_comparison(ins, root == "set");
  require_operands(ins, 4);
  const Type result = root == "selp" ? ins.opcode.type() : ins.opcode.type(1);
  const bool wide = type_bits(result) == 64;
  if (root == "selp") {
    ins.run = wide ? run_selp<uint64_t> : run_selp<uint32_t>;
  } else {
    ins.variant[0] = ins.opcode.type() == Type::f32;
    ins.run = wide ? run_slct<uint64_t> : run_slct<uint32_t>;
  }
}

}  // namespace inferd::ptxsim
