// ldmatrix, stmatrix, movmatrix: 8x8 matrices of 16-bit elements between shared memory and a warp's registers.
// PTX ISA 9.7.14.5: lane l holds row l/4, columns 2*(l%4) and +1; transposed: column l/4, rows 2*(l%4) and +1.
#include <cstring>

#include "tests/ptxsim/access.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

constexpr int kSide = 8;

struct Matrix {
  uint16_t at[kSide][kSide];  // [row][column]

  uint32_t fragment(int lane, bool transposed) const {
    const int major = lane / 4, minor = lane % 4 * 2;
    const uint16_t low = transposed ? at[minor][major] : at[major][minor];
    const uint16_t high = transposed ? at[minor + 1][major] : at[major][minor + 1];
    return low | uint32_t{high} << 16;
  }
  void set_fragment(int lane, bool transposed, uint32_t value) {
    const int major = lane / 4, minor = lane % 4 * 2;
    (transposed ? at[minor][major] : at[major][minor]) = uint16_t(value);
    (transposed ? at[minor + 1][major] : at[major][minor + 1]) = uint16_t(value >> 16);
  }
};

constexpr int kRowBytes = sizeof(Matrix::at[0]);

LaneMask address_lanes(int matrices) { return matrices == 4 ? kAllLanes : (1u << (kSide * matrices)) - 1; }

const Operand& member(const Instruction& i, const Operand& o, int k) {
  return o.kind == Operand::Kind::vector ? i.element(o, k) : o;
}

// variant: [0] matrices, [1] transposed, [2] Space
void run_ldmatrix(Warp& w, const Instruction& i, LaneMask) {
  const int matrices = i.variant[0];
  LanePointers rows;
  resolve(w, i, i[1], address_lanes(matrices), kRowBytes, Space(i.variant[2]), Purpose::read, rows);
  for (int k = 0; k < matrices; ++k) {
    Matrix matrix;
    for (int r = 0; r < kSide; ++r) std::memcpy(matrix.at[r], rows.at[k * kSide + r], kRowBytes);
    uint32_t* d = w.lanes32(member(i, i[0], k));
    for (int l = 0; l < kWarpSize; ++l) d[l] = matrix.fragment(l, i.variant[1] != 0);
  }
}

void run_stmatrix(Warp& w, const Instruction& i, LaneMask) {
  const int matrices = i.variant[0];
  LanePointers rows;
  resolve(w, i, i[0], address_lanes(matrices), kRowBytes, Space(i.variant[2]), Purpose::write, rows);
  for (int k = 0; k < matrices; ++k) {
    Matrix matrix;
    const uint32_t* a = w.lanes32(member(i, i[1], k));
    for (int l = 0; l < kWarpSize; ++l) matrix.set_fragment(l, i.variant[1] != 0, a[l]);
    for (int r = 0; r < kSide; ++r) std::memcpy(rows.at[k * kSide + r], matrix.at[r], kRowBytes);
  }
}

void run_movmatrix(Warp& w, const Instruction& i, LaneMask) {
  Matrix matrix;
  const uint32_t* a = w.lanes32(i[1]);
  for (int l = 0; l < kWarpSize; ++l) matrix.set_fragment(l, false, a[l]);
  uint32_t* d = w.lanes32(i[0]);
  for (int l = 0; l < kWarpSize; ++l) d[l] = matrix.fragment(l, true);
}

}  // namespace

void select_matrix(Instruction& ins) {
  require_operands(ins, 2);
  const Opcode& op = ins.opcode;
  if (!op.has("m8n8") || !op.has("b16") || !op.has("aligned")) unknown_instruction(ins);
  const int matrices = op.has("x4") ? 4 : op.has("x2") ? 2 : 1;
  const Space space = space_of(op);
  ins.variant = {matrices, op.has("trans"), int(space)};
  if (op.root() == "movmatrix") {
    ins.run = run_movmatrix;
    return;
  }
  const bool load = op.root() == "ldmatrix";
  const Operand& data = ins[load ? 0 : 1];
  if ((data.kind == Operand::Kind::vector ? data.count : 1) != matrices) unknown_instruction(ins);
  ins.run = load ? run_ldmatrix : run_stmatrix;
}

}  // namespace inferd::ptxsim
