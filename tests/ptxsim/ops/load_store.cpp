// ld and st in all state spaces: PTX ISA 9.7.9.
#include <cstring>

#include "tests/ptxsim/access.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

// variant: [0] Space, [1] bytes of an element, [2] elements, [3] loads sign-extend
struct Shape {
  Space space;
  int bytes, count;
  bool sign;
  explicit Shape(const Instruction& i)
      : space(Space(i.variant[0])), bytes(i.variant[1]), count(i.variant[2]), sign(i.variant[3] != 0) {}
};

const Operand& member(const Instruction& i, const Operand& o, int k) {
  return o.kind == Operand::Kind::vector ? i.element(o, k) : o;
}

// T: the element as it lies in memory. Registers may be wider: loads extend, stores drop.
template <class T>
void load_elements(Warp& w, const Instruction& i, LaneMask m, int count, const LanePointers& p) {
  using Word = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  for (int k = 0; k < count; ++k) {
    const Operand& o = member(i, i[0], k);
    const auto get = [&](int l) {
      T v;
      std::memcpy(&v, p.at[l] + size_t(k) * sizeof(T), sizeof(T));
      return Word(v);
    };
    if (o.kind == Operand::Kind::reg64 || sizeof(T) == 8) {
      uint64_t* d = w.lanes64(o);
      each_lane(m, [&](int l) { d[l] = uint64_t(get(l)); });
    } else {
      uint32_t* d = w.lanes32(o);
      each_lane(m, [&](int l) { d[l] = uint32_t(get(l)); });
    }
  }
}

template <class T>
void store_elements(Warp& w, const Instruction& i, LaneMask m, int count, const LanePointers& p) {
  for (int k = 0; k < count; ++k) {
    const Operand& o = member(i, i[1], k);
    const auto put = [&](int l, uint64_t word) {
      const T v = T(word);
      std::memcpy(p.at[l] + size_t(k) * sizeof(T), &v, sizeof(T));
    };
    if (o.kind == Operand::Kind::reg64 || sizeof(T) == 8) {
      const uint64_t* a = w.lanes64(o);
      each_lane(m, [&](int l) { put(l, a[l]); });
    } else {
      const uint32_t* a = w.lanes32(o);
      each_lane(m, [&](int l) { put(l, a[l]); });
    }
  }
}

template <class T>
void run_load(Warp& w, const Instruction& i, LaneMask m) {
  const Shape s(i);
  LanePointers p;
  resolve(w, i, i[1], m, s.bytes * s.count, s.space, Purpose::read, p);
  load_elements<T>(w, i, m, s.count, p);
}

template <class T>
void run_store(Warp& w, const Instruction& i, LaneMask m) {
  const Shape s(i);
  LanePointers p;
  resolve(w, i, i[0], m, s.bytes * s.count, s.space, Purpose::write, p);
  store_elements<T>(w, i, m, s.count, p);
}

Handler load(int bytes, bool sign) {
  switch (bytes) {
    case 1:
      return sign ? run_load<int8_t> : run_load<uint8_t>;
    case 2:
      return sign ? run_load<int16_t> : run_load<uint16_t>;
    case 4:
      return sign ? run_load<int32_t> : run_load<uint32_t>;
    case 8:
      return run_load<uint64_t>;
    default:
      return nullptr;
  }
}

Handler store(int bytes) {
  switch (bytes) {
    case 1:
      return run_store<uint8_t>;
    case 2:
      return run_store<uint16_t>;
    case 4:
      return run_store<uint32_t>;
    case 8:
      return run_store<uint64_t>;
    default:
      return nullptr;
  }
}

}  // namespace

void select_load_store(Instruction& ins) {
  require_operands(ins, 2);
  const Opcode& op = ins.opcode;
  const bool is_store = op.root() == "st";
  const Operand& address = ins[is_store ? 0 : 1];
  const Operand& data = ins[is_store ? 1 : 0];
  const int count = op.has("v2") ? 2 : op.has("v4") ? 4 : op.has("v8") ? 8 : 1;
  if (address.kind != Operand::Kind::address || (data.kind == Operand::Kind::vector ? data.count : 1) != count) {
    unknown_instruction(ins);
  }
  const int bytes = type_bits(op.type()) / 8;
  ins.variant = {int(space_of(op)), bytes, count, is_signed(op.type())};
  ins.run = is_store ? store(bytes) : load(bytes, is_signed(op.type()));
}

}  // namespace inferd::ptxsim
