// mov with packing and unpacking, generic addresses: PTX ISA 9.7.9.
#include "tests/ptxsim/access.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
void run_move(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  each_lane(m, [=](int l) { d[l] = a[l]; });
}

void run_move_predicate(Warp& w, const Instruction& i, LaneMask m) { w.set_predicate(i[0], w.predicate(i[1]), m); }

// mov.b32 / mov.b64 from or to {..}: element 0 holds the low bits. variant: [0] bits of the whole, [1] of an element
void run_pack(Warp& w, const Instruction& i, LaneMask m) {
  const Operand& vector = i[1];
  const int bits = i.variant[1];
  const uint64_t keep = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  uint64_t whole[kWarpSize] = {};
  for (int k = 0; k < vector.count; ++k) {
    const uint32_t* a = w.lanes32(i.element(vector, k));
    each_lane(m, [&](int l) { whole[l] |= (uint64_t{a[l]} & keep) << (bits * k); });
  }
  if (i.variant[0] == 64) {
    uint64_t* d = w.lanes64(i[0]);
    each_lane(m, [&](int l) { d[l] = whole[l]; });
  } else {
    uint32_t* d = w.lanes32(i[0]);
    each_lane(m, [&](int l) { d[l] = uint32_t(whole[l]); });
  }
}

void run_unpack(Warp& w, const Instruction& i, LaneMask m) {
  const Operand& vector = i[0];
  const int bits = i.variant[1];
  const uint32_t keep = bits == 32 ? ~0u : (1u << bits) - 1;
  uint64_t whole[kWarpSize];
  if (i.variant[0] == 64) {
    const uint64_t* a = w.lanes64(i[1]);
    each_lane(m, [&](int l) { whole[l] = a[l]; });
  } else {
    const uint32_t* a = w.lanes32(i[1]);
    each_lane(m, [&](int l) { whole[l] = a[l]; });
  }
  for (int k = 0; k < vector.count; ++k) {
    uint32_t* d = w.lanes32(i.element(vector, k));
    each_lane(m, [&](int l) { d[l] = uint32_t(whole[l] >> (bits * k)) & keep; });
  }
}

void select_vector_move(Instruction& ins, const Operand& vector) {
  const int whole = type_bits(ins.opcode.type());
  if (vector.count < 2 || whole > 64 || whole % vector.count != 0 || whole / vector.count > 32)
    unknown_instruction(ins);
  ins.variant = {whole, whole / vector.count};
  ins.run = &vector == &ins.operands[0] ? run_unpack : run_pack;
}

// cvta.space: an address in the space to a generic one; cvta.to.space: back. variant[0]: upper bits to set, [1] to
void run_cvta(Warp& w, const Instruction& i, LaneMask m) {
  uint64_t* d = w.lanes64(i[0]);
  const uint64_t* a = w.lanes64(i[1]);
  const uint64_t window = uint64_t(i.variant[0]) << 56;
  const bool to = i.variant[1] != 0;
  each_lane(m, [=](int l) { d[l] = to ? (window != 0 ? a[l] & kWindowMask : a[l]) : a[l] | window; });
}

uint64_t window_of(Space space) {
  switch (space) {
    case Space::shared:
      return kSharedWindow;
    case Space::local:
      return kLocalWindow;
    case Space::parameter:
      return kParameterWindow;
    default:
      return 0;
  }
}

void run_isspacep(Warp& w, const Instruction& i, LaneMask m) {
  const uint64_t* a = w.lanes64(i[1]);
  LaneMask result = 0;
  for (int l = 0; l < kWarpSize; ++l) {
    result |= LaneMask{(a[l] & ~kWindowMask) == uint64_t(i.variant[0]) << 56} << l;
  }
  w.set_predicate(i[0], result, m);
}

// Cache policies steer caches only; the value is an opaque word.
void run_createpolicy(Warp& w, const Instruction& i, LaneMask m) {
  uint64_t* d = w.lanes64(i[0]);
  each_lane(m, [=](int l) { d[l] = 0; });
}

void select_mov(Instruction& ins) {
  require_operands(ins, 2);
  if (ins[0].kind == Operand::Kind::vector) return select_vector_move(ins, ins.operands[0]);
  if (ins[1].kind == Operand::Kind::vector) return select_vector_move(ins, ins.operands[1]);
  const Type t = ins.opcode.type();
  if (t == Type::none || type_bits(t) > 64) unknown_instruction(ins);
  ins.run = t == Type::pred ? run_move_predicate : type_bits(t) == 64 ? run_move<uint64_t> : run_move<uint32_t>;
}

}  // namespace

void select_move(Instruction& ins) {
  const std::string& root = ins.opcode.root();
  if (root == "mov") return select_mov(ins);
  if (root == "createpolicy") {
    ins.run = run_createpolicy;
    return;
  }
  require_operands(ins, 2);
  if (root == "cvta" && type_bits(ins.opcode.type()) != 64) unknown_instruction(ins);
  ins.variant = {int(window_of(space_of(ins.opcode)) >> 56), ins.opcode.has("to")};
  ins.run = root == "cvta" ? run_cvta : run_isspacep;
}

}  // namespace inferd::ptxsim
