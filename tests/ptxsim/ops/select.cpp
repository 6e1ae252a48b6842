// The table of opcodes.
#include "tests/ptxsim/ops/select.h"

#include <algorithm>
#include <array>

#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {
namespace {

void do_nothing(Warp&, const Instruction&, LaneMask) {}

void trap(Warp& warp, const Instruction& ins, LaneMask) { warp.fail(Violation::Kind::trap, ins, 0, "trap"); }

// add, mul, ..: the type decides the family.
void select_arithmetic(Instruction& ins) {
  switch (ins.opcode.type()) {
    case Type::f32:
    case Type::f64:
      return select_float_arithmetic(ins);
    case Type::f16:
    case Type::f16x2:
    case Type::bf16:
    case Type::bf16x2:
      return select_half_arithmetic(ins);
    default:
      return select_integer_arithmetic(ins);
  }
}

// bar.warp.sync meets lanes; all other forms are barriers of the block.
void select_bar(Instruction& ins) {
  if (ins.opcode.has("warp")) {
    select_warp_exchange(ins);
  } else {
    select_barrier(ins);
  }
}

// Order between threads of other blocks is not modelled: blocks run one after the other.
void select_nothing(Instruction& ins) { ins.run = do_nothing; }

void select_trap(Instruction& ins) { ins.run = trap; }

struct Row {
  std::string_view root;
  void (*select)(Instruction&);
};

constexpr std::array kRoots = {
    Row{"add", select_arithmetic},
    Row{"sub", select_arithmetic},
    Row{"mul", select_arithmetic},
    Row{"mad", select_arithmetic},
    Row{"fma", select_arithmetic},
    Row{"div", select_arithmetic},
    Row{"abs", select_arithmetic},
    Row{"neg", select_arithmetic},
    Row{"min", select_arithmetic},
    Row{"max", select_arithmetic},
    Row{"rem", select_integer_arithmetic},
    Row{"mul24", select_integer_arithmetic},
    Row{"mad24", select_integer_arithmetic},
    Row{"sad", select_integer_arithmetic},
    Row{"addc", select_integer_arithmetic},
    Row{"subc", select_integer_arithmetic},
    Row{"madc", select_integer_arithmetic},
    Row{"dp4a", select_integer_arithmetic},
    Row{"dp2a", select_integer_arithmetic},
    Row{"copysign", select_float_arithmetic},
    Row{"testp", select_float_arithmetic},
    Row{"rcp", select_special_function},
    Row{"sqrt", select_special_function},
    Row{"rsqrt", select_special_function},
    Row{"ex2", select_special_function},
    Row{"lg2", select_special_function},
    Row{"sin", select_special_function},
    Row{"cos", select_special_function},
    Row{"tanh", select_special_function},
    Row{"and", select_logic},
    Row{"or", select_logic},
    Row{"xor", select_logic},
    Row{"not", select_logic},
    Row{"cnot", select_logic},
    Row{"lop3", select_logic},
    Row{"shl", select_logic},
    Row{"shr", select_logic},
    Row{"shf", select_logic},
    Row{"prmt", select_bits},
    Row{"bfe", select_bits},
    Row{"bfi", select_bits},
    Row{"popc", select_bits},
    Row{"clz", select_bits},
    Row{"brev", select_bits},
    Row{"bfind", select_bits},
    Row{"fns", select_bits},
    Row{"bmsk", select_bits},
    Row{"szext", select_bits},
    Row{"setp", select_compare},
    Row{"set", select_compare},
    Row{"selp", select_compare},
    Row{"slct", select_compare},
    Row{"mov", select_move},
    Row{"cvta", select_move},
    Row{"isspacep", select_move},
    Row{"createpolicy", select_move},
    Row{"cvt", select_convert},
    Row{"ld", select_load_store},
    Row{"ldu", select_load_store},
    Row{"st", select_load_store},
    Row{"prefetch", select_nothing},
    Row{"prefetchu", select_nothing},
    Row{"membar", select_nothing},
    Row{"fence", select_nothing},
    Row{"nanosleep", select_nothing},
    Row{"griddepcontrol", select_nothing},
    Row{"discard", select_nothing},
    Row{"applypriority", select_nothing},
    Row{"trap", select_trap},
    Row{"atom", select_atomic},
    Row{"red", select_atomic},
    Row{"cp", select_async_copy},
    Row{"shfl", select_warp_exchange},
    Row{"vote", select_warp_exchange},
    Row{"match", select_warp_exchange},
    Row{"redux", select_warp_exchange},
    Row{"activemask", select_warp_exchange},
    Row{"bar", select_bar},
    Row{"barrier", select_bar},
    Row{"ldmatrix", select_matrix},
    Row{"stmatrix", select_matrix},
    Row{"movmatrix", select_matrix},
    Row{"mma", select_mma},
};

}  // namespace

void unknown_instruction(const Instruction& ins) {
  throw ParseError("ptx line " + std::to_string(ins.ptx_line) + ": the interpreter does not know `" + ins.text + "`");
}

void require_operands(const Instruction& ins, size_t count) {
  if (ins.operands.size() >= count) return;
  throw ParseError("ptx line " + std::to_string(ins.ptx_line) + ": `" + ins.text + "` has too few operands");
}

void select_handler(Instruction& ins) {
  const auto row =
      std::find_if(kRoots.begin(), kRoots.end(), [&](const Row& r) { return r.root == ins.opcode.root(); });
  if (row == kRoots.end()) unknown_instruction(ins);
  row->select(ins);
  if (ins.run == nullptr) unknown_instruction(ins);
}

}  // namespace inferd::ptxsim
