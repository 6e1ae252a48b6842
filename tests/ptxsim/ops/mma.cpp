// mma.sync: D = A * B + C of a warp. PTX ISA 9.7.14.5, fragments of every shape from one rule:
// a 32-bit register holds n = 32 / bits consecutive k; with group = lane / 4 and t = lane % 4,
//   A register r: row group + 8 * (r & 1), k from (r / 2) * 4n + t * n   (M = 8: row group, k from r * 4n + t * n)
//   B register r: column group,            k from r * 4n + t * n
//   C element  e: row group + 8 * (e / 2), column 2 * t + (e & 1)
// Floats: products and their sum with C are formed in fp64 in ascending k and rounded once. The hardware's own order
// and truncation inside a step are not documented.
#include <algorithm>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

constexpr int kMaxM = 16, kN = 8, kMaxK = 64;

struct Mma {
  int m, k;
  Type a, b, c, d;
  bool saturate;

  int bits() const { return a == Type::e4m3x2 || a == Type::e5m2x2 ? 8 : type_bits(a); }
  bool integer() const { return c == Type::s32; }
  int a_registers() const { return m * k * bits() / 32 / kWarpSize; }
  int b_registers() const { return kN * k * bits() / 32 / kWarpSize; }
  int c_registers() const { return m * kN * type_bits(c) / 32 / kWarpSize; }
  int row_registers() const { return m / 8; }  // registers of A that share their k
};

Mma mma_of(const Instruction& i) {
  return {i.variant[0],
          i.variant[1],
          Type(i.variant[2] & 0xff),
          Type(i.variant[2] >> 8),
          Type(i.variant[3] & 0xff),
          Type(i.variant[3] >> 8),
          i.variant[4] != 0};
}

double float_element(Type t, uint32_t bits) {
  switch (t) {
    case Type::f16:
      return f16_to_float(uint16_t(bits));
    case Type::bf16:
      return bf16_to_float(uint16_t(bits));
    case Type::tf32:
      return std::bit_cast<float>(bits & 0xffffe000u);  // the lower bits of the register are ignored
    case Type::e4m3x2:
      return decode_float(bits, kE4m3);
    default:
      return decode_float(bits, kE5m2);
  }
}

int32_t integer_element(Type t, uint32_t bits) {
  const int up = 32 - type_bits(t);
  return t == Type::s8 || t == Type::s4 ? int32_t(bits << up) >> up : int32_t(bits << up >> up);
}

template <class V>
V element(Type t, uint32_t bits) {
  if constexpr (std::is_same_v<V, double>) {
    return float_element(t, bits);
  } else {
    return integer_element(t, bits);
  }
}

// Calls put(major, k, bits) for all elements of an operand; major = row of A or column of B.
template <class Put>
void scatter(Warp& w, const Instruction& i, const Operand& o, int registers, int registers_per_k, int bits, Put&& put) {
  const int per_register = 32 / bits;
  const uint32_t keep = bits == 32 ? ~0u : (1u << bits) - 1;
  for (int r = 0; r < registers; ++r) {
    const uint32_t* lanes = w.lanes32(o.kind == Operand::Kind::vector ? i.element(o, r) : o);
    const int row = 8 * (r % registers_per_k), first = r / registers_per_k * 4 * per_register;
    for (int l = 0; l < kWarpSize; ++l) {
      for (int j = 0; j < per_register; ++j) {
        put(row + l / 4, first + l % 4 * per_register + j, lanes[l] >> (bits * j) & keep);
      }
    }
  }
}

template <class V, class Sum>
void multiply(const Mma& mma, const V (&a)[kMaxM][kMaxK], const V (&b)[kMaxK][kN], Sum (&c)[kMaxM][kN]) {
  for (int row = 0; row < mma.m; ++row) {
    Sum sum[kN];
    for (int n = 0; n < kN; ++n) sum[n] = c[row][n];
    for (int k = 0; k < mma.k; ++k) {
      for (int n = 0; n < kN; ++n) sum[n] += Sum(a[row][k]) * Sum(b[k][n]);
    }
    for (int n = 0; n < kN; ++n) c[row][n] = sum[n];
  }
}

const Operand& member(const Instruction& i, const Operand& o, int k) {
  return o.kind == Operand::Kind::vector ? i.element(o, k) : o;
}

// Accumulators: f32 or s32, one element a register, or f16, two.
template <class Sum>
void load_accumulator(Warp& w, const Instruction& i, const Mma& mma, Sum (&c)[kMaxM][kN]) {
  const bool half = mma.c == Type::f16;
  for (int r = 0; r < mma.c_registers(); ++r) {
    const uint32_t* lanes = w.lanes32(member(i, i[3], r));
    for (int l = 0; l < kWarpSize; ++l) {
      if (half) {
        c[l / 4 + 8 * r][l % 4 * 2] = Sum(f16_to_float(uint16_t(lanes[l])));
        c[l / 4 + 8 * r][l % 4 * 2 + 1] = Sum(f16_to_float(uint16_t(lanes[l] >> 16)));
      } else {
        Sum& to = c[l / 4 + 8 * (r / 2)][l % 4 * 2 + (r & 1)];
        to = std::is_same_v<Sum, double> ? Sum(std::bit_cast<float>(lanes[l])) : Sum(int32_t(lanes[l]));
      }
    }
  }
}

uint32_t rounded(double v) {
  const float f = float(v);
  return f != f ? kNanF32 : std::bit_cast<uint32_t>(f);
}

template <class Sum>
void store_accumulator(Warp& w, const Instruction& i, const Mma& mma, const Sum (&c)[kMaxM][kN]) {
  const bool half = mma.d == Type::f16;
  for (int r = 0; r < mma.c_registers(); ++r) {
    uint32_t* lanes = w.lanes32(member(i, i[0], r));
    for (int l = 0; l < kWarpSize; ++l) {
      if (half) {
        const Sum* pair = &c[l / 4 + 8 * r][l % 4 * 2];
        lanes[l] = double_to_f16(double(pair[0])) | uint32_t{double_to_f16(double(pair[1]))} << 16;
      } else {
        const Sum value = c[l / 4 + 8 * (r / 2)][l % 4 * 2 + (r & 1)];
        if constexpr (std::is_same_v<Sum, double>) {
          lanes[l] = rounded(value);
        } else {
          lanes[l] = mma.saturate ? uint32_t(std::clamp<int64_t>(value, INT32_MIN, INT32_MAX)) : uint32_t(value);
        }
      }
    }
  }
}

template <class V, class Sum>
void run_mma(Warp& w, const Instruction& i, LaneMask) {
  const Mma mma = mma_of(i);
  V a[kMaxM][kMaxK], b[kMaxK][kN];
  Sum c[kMaxM][kN];
  scatter(w, i, i[1], mma.a_registers(), mma.row_registers(), mma.bits(),
          [&](int row, int k, uint32_t bits) { a[row][k] = element<V>(mma.a, bits); });
  scatter(w, i, i[2], mma.b_registers(), 1, mma.bits(),
          [&](int column, int k, uint32_t bits) { b[k][column] = element<V>(mma.b, bits); });
  load_accumulator(w, i, mma, c);
  multiply(mma, a, b, c);
  store_accumulator(w, i, mma, c);
}

Type operand_type(const std::string& word) {
  if (word == "e4m3") return Type::e4m3x2;
  if (word == "e5m2") return Type::e5m2x2;
  return parse_type(word);
}

struct Supported {
  std::string_view shape;
  int m, k;
  std::string_view types;  // of A and B
};
constexpr Supported kSupported[] = {
    {"m16n8k16", 16, 16, "f16 bf16 s8 u8"},
    {"m16n8k8", 16, 8, "f16 bf16 tf32"},
    {"m16n8k4", 16, 4, "tf32"},
    {"m16n8k32", 16, 32, "s8 u8 s4 u4 e4m3 e5m2"},
    {"m16n8k64", 16, 64, "s4 u4"},
    {"m8n8k16", 8, 16, "s8 u8"},
    {"m8n8k32", 8, 32, "s4 u4"},
};

bool lists(std::string_view list, std::string_view word) {
  const std::string padded = " " + std::string(list) + " ";
  return padded.find(" " + std::string(word) + " ") != std::string::npos;
}

void check_registers(const Instruction& ins, const Mma& mma) {
  const int expected[] = {mma.c_registers(), mma.a_registers(), mma.b_registers(), mma.c_registers()};
  for (size_t o = 0; o < 4; ++o) {
    const int found = ins[o].kind == Operand::Kind::vector ? ins[o].count : 1;
    if (found != expected[o]) unknown_instruction(ins);
  }
}

}  // namespace

// mma.sync.aligned.SHAPE.row.col{.satfinite}.D.A.B.C d, a, b, c
void select_mma(Instruction& ins) {
  require_operands(ins, 4);
  const Opcode& op = ins.opcode;
  const size_t n = op.words.size();
  if (n < 10 || !op.has("row") || !op.has("col") || op.has("sp") || op.has("xor")) unknown_instruction(ins);
  const std::string &a = op.words[n - 3], &b = op.words[n - 2];
  const auto shape = std::find_if(std::begin(kSupported), std::end(kSupported),
                                  [&](const Supported& s) { return s.shape == op.words[3]; });
  if (shape == std::end(kSupported) || !lists(shape->types, a) || !lists(shape->types, b)) unknown_instruction(ins);
  const Type d = parse_type(op.words[n - 4]), c = parse_type(op.words[n - 1]);
  const Mma mma{shape->m, shape->k, operand_type(a), operand_type(b), c, d, op.has("satfinite")};
  const bool float_sum = (c == Type::f32 || c == Type::f16) && c == d;
  if (c != d || (!float_sum && c != Type::s32)) unknown_instruction(ins);
  check_registers(ins, mma);
  ins.variant = {mma.m, mma.k, int(mma.a) | int(mma.b) << 8, int(c) | int(d) << 8, mma.saturate};
  ins.run = mma.integer() ? run_mma<int32_t, int64_t> : run_mma<double, double>;
}

}  // namespace inferd::ptxsim
