// cvt: PTX ISA 9.7.9.21. A general path that is exact for every pair of types, and short ones for the common pairs.
#include <cmath>

#include "tests/ptxsim/float_formats.h"
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

// What the general path reads from Instruction::variant.
struct Conversion {
  Type to, from;
  Rounding rounding;
  bool saturate, relu, flush;

  static Conversion of(const Instruction& i) {
    return {Type(i.variant[0]),      Type(i.variant[1]),      Rounding(i.variant[2]),
            (i.variant[3] & 1) != 0, (i.variant[3] & 2) != 0, (i.variant[3] & 4) != 0};
  }
};

const FloatFormat* float_format(Type t) {
  switch (t) {
    case Type::f16:
    case Type::f16x2:
      return &kF16;
    case Type::bf16:
    case Type::bf16x2:
      return &kBf16;
    case Type::tf32:
      return &kTf32;
    case Type::f32:
      return &kF32;
    case Type::f64:
      return &kF64;
    case Type::e4m3x2:
      return &kE4m3;
    case Type::e5m2x2:
      return &kE5m2;
    default:
      return nullptr;
  }
}

__int128 read_integer(uint64_t word, Type t) {
  const int up = 64 - type_bits(t);
  return is_signed(t) ? __int128{int64_t(word << up) >> up} : __int128{word << up >> up};
}

// The low bits of the value, extended to the whole register as the destination's sign says.
uint64_t write_integer(__int128 value, Type t, bool saturate) {
  const int bits = type_bits(t);
  if (saturate) {
    const __int128 low = is_signed(t) ? -(__int128{1} << (bits - 1)) : 0;
    const __int128 high = is_signed(t) ? (__int128{1} << (bits - 1)) - 1 : (__int128{1} << bits) - 1;
    value = value < low ? low : value > high ? high : value;
  }
  const int up = 64 - bits;
  return is_signed(t) ? uint64_t(int64_t(uint64_t(value) << up) >> up) : uint64_t(value) << up >> up;
}

double round_to_integer(double v, Rounding rounding) {
  switch (rounding) {
    case Rounding::zero:
      return std::trunc(v);
    case Rounding::down:
      return std::floor(v);
    case Rounding::up:
      return std::ceil(v);
    default:
      return std::nearbyint(v);
  }
}

// Out of range clamps; NaN is 0, but the top bit alone for 64-bit results and f64 sources.
uint64_t float_to_integer(double v, const Conversion& c) {
  if (v != v) {
    return type_bits(c.to) == 64 || c.from == Type::f64
               ? write_integer(__int128{1} << (type_bits(c.to) - 1), c.to, false)
               : 0;
  }
  v = round_to_integer(v, c.rounding);
  const double limit = 0x1p100;
  return write_integer(__int128(v > limit ? limit : v < -limit ? -limit : v), c.to, true);
}

double read_float(uint64_t word, Type t) {
  switch (t) {
    case Type::f32:
      return std::bit_cast<float>(uint32_t(word));
    case Type::f64:
      return std::bit_cast<double>(word);
    default:
      return decode_float(word & ((uint64_t{1} << float_format(t)->width()) - 1), *float_format(t));
  }
}

// tf32 lives in the upper bits of a 32-bit register.
uint64_t write_float(double v, Type t, Rounding rounding, bool saturate_finite) {
  if (t == Type::f64) return std::bit_cast<uint64_t>(v);
  const uint64_t code = encode_float(v, *float_format(t), rounding, saturate_finite);
  return t == Type::tf32 ? code << (kF32.mantissa_bits - kTf32.mantissa_bits) : code;
}

uint64_t float_to_float(double v, const Conversion& c, bool to_integral) {
  if (c.flush && std::fabs(v) < 0x1p-126) v = std::copysign(0.0, v);
  if (to_integral && std::isfinite(v)) v = std::copysign(round_to_integer(v, c.rounding), v);
  if (c.saturate) v = v > 0 ? std::fmin(v, 1.0) : 0.0;
  if (c.relu && (v < 0 || v == 0)) v = 0.0;
  return write_float(v, c.to, c.rounding, false);
}

uint64_t integer_to_float(__int128 v, const Conversion& c) {
  const bool negative = v < 0;
  if (c.saturate) v = v > 1 ? 1 : v < 0 ? 0 : v;
  return encode_parts(negative, uint64_t(negative ? -v : v), 0, false, *float_format(c.to), c.rounding);
}

// One value, any scalar types.
void run_general(Warp& w, const Instruction& i, LaneMask m) {
  const Conversion c = Conversion::of(i);
  const bool from64 =
      i[1].kind == Operand::Kind::reg64 || (i[1].kind == Operand::Kind::constant && type_bits(c.from) == 64);
  const bool to64 = i[0].kind == Operand::Kind::reg64;
  const bool from_float = float_format(c.from) != nullptr, to_float = float_format(c.to) != nullptr;
  const bool to_integral = i.variant[4] != 0;
  each_lane(m, [&](int l) {
    const uint64_t word = from64 ? w.lanes64(i[1])[l] : w.lanes32(i[1])[l];
    uint64_t v = 0;
    if (from_float && to_float)
      v = float_to_float(read_float(word, c.from), c, to_integral);
    else if (from_float)
      v = float_to_integer(read_float(word, c.from), c);
    else if (to_float)
      v = integer_to_float(read_integer(word, c.from), c);
    else
      v = write_integer(read_integer(word, c.from), c.to, c.saturate);
    if (to64) {
      w.lanes64(i[0])[l] = v;
    } else {
      w.lanes32(i[0])[l] = uint32_t(v);
    }
  });
}

// Two f32 into one packed register: the first source is the upper half.
void run_pack_floats(Warp& w, const Instruction& i, LaneMask m) {
  const Conversion c = Conversion::of(i);
  const FloatFormat& format = *float_format(c.to);
  const bool finite = c.saturate;
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t *high = w.lanes32(i[1]), *low = w.lanes32(i[2]);
  const auto one = [&](uint32_t word) {
    double v = std::bit_cast<float>(word);
    if (c.relu && (v < 0 || v == 0)) v = 0.0;
    return uint32_t(encode_float(v, format, c.rounding, finite));
  };
  each_lane(m, [&](int l) { d[l] = one(low[l]) | one(high[l]) << format.width(); });
}

// e4m3x2 or e5m2x2 to f16x2, and back.
void run_pair(Warp& w, const Instruction& i, LaneMask m) {
  const Conversion c = Conversion::of(i);
  const FloatFormat &to = *float_format(c.to), &from = *float_format(c.from);
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t* a = w.lanes32(i[1]);
  const auto one = [&](uint32_t code) {
    double v = decode_float(code & ((1u << from.width()) - 1), from);
    if (c.relu && (v < 0 || v == 0)) v = 0.0;
    return uint32_t(encode_float(v, to, c.rounding, c.saturate));
  };
  each_lane(m, [&](int l) { d[l] = one(a[l]) | one(a[l] >> from.width()) << to.width(); });
}

// The short paths.
struct F16ToF32 {
  uint32_t operator()(uint32_t a) const { return std::bit_cast<uint32_t>(f16_to_float(uint16_t(a))); }
};
struct Bf16ToF32 {
  uint32_t operator()(uint32_t a) const { return a << 16; }
};
struct F32ToF16 {
  uint32_t operator()(float a) const { return float_to_f16(a); }
};
struct F32ToBf16 {
  uint32_t operator()(float a) const { return float_to_bf16(a); }
};
struct S32ToF32 {
  float operator()(int32_t a) const { return float(a); }
};
struct U32ToF32 {
  float operator()(uint32_t a) const { return float(a); }
};
struct ToF16x2 {
  uint32_t operator()(float high, float low) const { return float_to_f16(low) | uint32_t{float_to_f16(high)} << 16; }
};
struct ToBf16x2 {
  uint32_t operator()(float high, float low) const { return float_to_bf16(low) | uint32_t{float_to_bf16(high)} << 16; }
};
template <class D, class S>
struct Widen {
  D operator()(S a) const { return D(a); }
};

struct ShortPath {
  Type to, from;
  Handler run;
};
const ShortPath kShortPaths[] = {
    {Type::f32, Type::f16, run_unary<uint32_t, uint32_t, F16ToF32>},
    {Type::f16, Type::f32, run_unary<uint32_t, float, F32ToF16>},
    {Type::bf16, Type::f32, run_unary<uint32_t, float, F32ToBf16>},
    {Type::f32, Type::s32, run_unary<float, int32_t, S32ToF32>},
    {Type::f32, Type::u32, run_unary<float, uint32_t, U32ToF32>},
    {Type::f16x2, Type::f32, run_binary<uint32_t, float, ToF16x2>},
    {Type::bf16x2, Type::f32, run_binary<uint32_t, float, ToBf16x2>},
    {Type::s64, Type::s32, run_unary<int64_t, int32_t, Widen<int64_t, int32_t>>},
    {Type::u64, Type::u32, run_unary<uint64_t, uint32_t, Widen<uint64_t, uint32_t>>},
    {Type::u32, Type::u64, run_unary<uint32_t, uint64_t, Widen<uint32_t, uint64_t>>},
    {Type::s32, Type::s64, run_unary<uint32_t, uint64_t, Widen<uint32_t, uint64_t>>},
};

bool widths_match(const Instruction& ins, Type to, Type from) {
  const auto fits = [](const Operand& o, Type t) {
    return o.kind == Operand::Kind::constant || (o.kind == Operand::Kind::reg64) == (type_bits(t) == 64);
  };
  return fits(ins[0], to) && fits(ins[1], from);
}

Handler short_path(const Instruction& ins, Type to, Type from, Rounding rounding) {
  const Opcode& op = ins.opcode;
  if (op.has("sat") || op.has("relu") || op.has("ftz") || rounding != Rounding::nearest_even) return nullptr;
  if (!widths_match(ins, to, from)) return nullptr;
  for (const ShortPath& path : kShortPaths) {
    if (path.to == to && path.from == from) return path.run;
  }
  if (to == Type::f32 && from == Type::bf16) return run_unary<uint32_t, uint32_t, Bf16ToF32>;
  return nullptr;
}

}  // namespace

void select_convert(Instruction& ins) {
  require_operands(ins, 2);
  const Opcode& op = ins.opcode;
  const Type to = op.type(1), from = op.type(0);
  if (to == Type::none || from == Type::none) unknown_instruction(ins);
  Rounding rounding = Rounding::nearest_even;
  bool to_integral = false;
  for (const std::string& word : op.words) {
    if (parse_rounding(word, rounding)) to_integral = word.size() == 3 && word.back() == 'i';
  }
  const int flags = int(op.has("sat") || op.has("satfinite")) | int(op.has("relu")) << 1 | int(op.has("ftz")) << 2;
  ins.variant = {int(to), int(from), int(rounding), flags, to_integral};
  const bool packs = ins.operands.size() == 3;
  const bool pair = to == Type::f16x2 || to == Type::bf16x2 || to == Type::e4m3x2 || to == Type::e5m2x2;
  if (op.has("pack") || packs != (pair && from == Type::f32)) unknown_instruction(ins);
  ins.run = short_path(ins, to, from, rounding);
  if (ins.run != nullptr) return;
  ins.run = packs ? run_pack_floats : pair ? run_pair : run_general;
  if (pair && !packs && float_format(from) == nullptr) unknown_instruction(ins);
}

}  // namespace inferd::ptxsim
