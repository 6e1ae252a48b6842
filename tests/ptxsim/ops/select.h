// From opcodes to handlers: each family of instructions has one selector.
#pragma once
#include "tests/ptxsim/module.h"

namespace inferd::ptxsim {

/// Throws ParseError with the PTX line: the interpreter does not know this instruction.
[[noreturn]] void unknown_instruction(const Instruction& ins);
/// Throws ParseError unless the instruction has at least `count` operands.
void require_operands(const Instruction& ins, size_t count);

// Selectors set Instruction::run, or call unknown_instruction().
void select_barrier(Instruction& ins);
void select_integer_arithmetic(Instruction& ins);  // add sub mul mad div rem abs neg min max, carry chains, dp4a
void select_float_arithmetic(Instruction& ins);    // likewise, of f32 and f64
void select_half_arithmetic(Instruction& ins);     // likewise, of f16, bf16 and their pairs
void select_special_function(Instruction& ins);    // rcp sqrt rsqrt ex2 lg2 sin cos tanh
void select_logic(Instruction& ins);               // and or xor not cnot lop3 shl shr shf
void select_bits(Instruction& ins);                // prmt bfe bfi popc clz brev bfind fns
void select_compare(Instruction& ins);             // setp set selp slct
void select_move(Instruction& ins);                // mov cvta isspacep
void select_convert(Instruction& ins);             // cvt
void select_load_store(Instruction& ins);          // ld st and hints that do nothing
void select_atomic(Instruction& ins);              // atom red
void select_async_copy(Instruction& ins);          // cp.async
void select_warp_exchange(Instruction& ins);       // shfl vote match redux activemask, bar.warp.sync
void select_matrix(Instruction& ins);              // ldmatrix stmatrix movmatrix
void select_mma(Instruction& ins);                 // mma.sync

}  // namespace inferd::ptxsim
