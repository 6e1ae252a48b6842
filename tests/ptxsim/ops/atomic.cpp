// atom and red: PTX ISA 9.7.13. Lanes are served in ascending order, warps in the order they run.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/ptxsim/access.h"
#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

enum class Atomic { add, min, max, inc, dec, bit_and, bit_or, bit_xor, exchange, cas };

template <class T>
T apply(Atomic op, T old, T b, T c) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    switch (op) {
      case Atomic::add:
        return T(U(old) + U(b));
      case Atomic::inc:
        return old >= b ? T(0) : T(old + 1);
      case Atomic::dec:
        return old == 0 || old > b ? b : T(old - 1);
      case Atomic::bit_and:
        return old & b;
      case Atomic::bit_or:
        return old | b;
      case Atomic::bit_xor:
        return old ^ b;
      default:
        break;
    }
  }
  switch (op) {
    case Atomic::add:
      return old + b;
    case Atomic::min:
      return std::min(old, b);
    case Atomic::max:
      return std::max(old, b);
    case Atomic::exchange:
      return b;
    case Atomic::cas:
      return old == b ? c : old;
    default:
      return old;
  }
}

// variant: [0] Atomic, [1] Space, [2] atom (with a result)
template <class T>
void run_atomic(Warp& w, const Instruction& i, LaneMask m) {
  const Atomic op = Atomic(i.variant[0]);
  const size_t first = i.variant[2] != 0 ? 1 : 0;
  const auto* b = RegisterOf<T>::lanes(w, i[first + 1]);
  const auto* c = op == Atomic::cas ? RegisterOf<T>::lanes(w, i[first + 2]) : b;
  LanePointers p;
  resolve(w, i, i[first], m, sizeof(T), Space(i.variant[1]), Purpose::update, p);
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    T old;
    std::memcpy(&old, p.at[l], sizeof(T));
    const T value = apply<T>(op, old, RegisterOf<T>::get(b[l]), RegisterOf<T>::get(c[l]));
    std::memcpy(p.at[l], &value, sizeof(T));
    if (first == 1) RegisterOf<T>::lanes(w, i[0])[l] = RegisterOf<T>::put(old);
  }
}

// add.noftz.f16x2 / bf16x2
template <bool kBf16Pair>
void run_atomic_pair(Warp& w, const Instruction& i, LaneMask m) {
  const size_t first = i.variant[2] != 0 ? 1 : 0;
  const uint32_t* b = w.lanes32(i[first + 1]);
  LanePointers p;
  resolve(w, i, i[first], m, 4, Space(i.variant[1]), Purpose::update, p);
  const auto add = [](uint16_t x, uint16_t y) {
    return kBf16Pair ? double_to_bf16(double{bf16_to_float(x)} + bf16_to_float(y))
                     : double_to_f16(double{f16_to_float(x)} + f16_to_float(y));
  };
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    uint32_t old = 0;
    std::memcpy(&old, p.at[l], 4);
    const uint32_t sum = add(uint16_t(old), uint16_t(b[l])) | uint32_t{add(uint16_t(old >> 16), uint16_t(b[l] >> 16))}
                                                                  << 16;
    std::memcpy(p.at[l], &sum, 4);
    if (first == 1) w.lanes32(i[0])[l] = old;
  }
}

bool find_operation(const Opcode& op, Atomic& found) {
  static constexpr std::pair<std::string_view, Atomic> names[] = {
      {"add", Atomic::add},       {"min", Atomic::min},     {"max", Atomic::max},   {"inc", Atomic::inc},
      {"dec", Atomic::dec},       {"and", Atomic::bit_and}, {"or", Atomic::bit_or}, {"xor", Atomic::bit_xor},
      {"exch", Atomic::exchange}, {"cas", Atomic::cas},
  };
  for (const auto& [name, atomic] : names) {
    found = atomic;
    if (op.has(name)) return true;
  }
  return false;
}

Handler by_type(Type t) {
  switch (t) {
    case Type::b16:
    case Type::u16:
      return run_atomic<uint16_t>;
    case Type::b32:
    case Type::u32:
      return run_atomic<uint32_t>;
    case Type::s32:
      return run_atomic<int32_t>;
    case Type::b64:
    case Type::u64:
      return run_atomic<uint64_t>;
    case Type::s64:
      return run_atomic<int64_t>;
    case Type::f32:
      return run_atomic<float>;
    case Type::f64:
      return run_atomic<double>;
    case Type::f16x2:
      return run_atomic_pair<false>;
    case Type::bf16x2:
      return run_atomic_pair<true>;
    default:
      return nullptr;
  }
}

}  // namespace

void select_atomic(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const bool returns = op.root() == "atom";
  Atomic operation = Atomic::add;
  if (op.has("async") || !find_operation(op, operation)) unknown_instruction(ins);
  require_operands(ins, (returns ? 3u : 2u) + (operation == Atomic::cas));
  if (ins[returns ? 1 : 0].kind != Operand::Kind::address) unknown_instruction(ins);
  const Type t = op.type();
  const bool real = t == Type::f32 || t == Type::f64 || t == Type::f16x2 || t == Type::bf16x2;
  if (real && operation != Atomic::add && operation != Atomic::exchange) unknown_instruction(ins);
  ins.variant = {int(operation), int(space_of(op)), returns};
  ins.run = by_type(t);
}

}  // namespace inferd::ptxsim
