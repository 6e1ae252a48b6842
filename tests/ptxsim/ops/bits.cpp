// Bit fields and byte permutation: PTX ISA 9.7.1 (popc .. bmsk) and prmt.
#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

template <class T>
struct PopCount {
  uint32_t operator()(T a) const { return uint32_t(std::popcount(a)); }
};
template <class T>
struct LeadingZeros {
  uint32_t operator()(T a) const { return uint32_t(std::countl_zero(a)); }
};
template <class T>
struct Reverse {
  T operator()(T a) const {
    T r = 0;
    for (size_t i = 0; i < 8 * sizeof(T); ++i) r |= (a >> i & 1) << (8 * sizeof(T) - 1 - i);
    return r;
  }
};
// The place of the most significant bit that is not a sign bit; ~0 if there is none.
template <class T, bool kShiftAmount>
struct Find {
  uint32_t operator()(T a) const {
    using U = std::make_unsigned_t<T>;
    const U u = a < 0 ? U(~U(a)) : U(a);
    if (u == 0) return ~0u;
    const uint32_t zeros = uint32_t(std::countl_zero(u));
    return kShiftAmount ? zeros : uint32_t(8 * sizeof(T)) - 1 - zeros;
  }
};

// bfe d, a, start, length: positions and lengths are taken modulo 256. Beyond the top a signed field is filled with the
// sign.
template <class T>
T extract(T a, uint32_t start, uint32_t length) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  using U = std::make_unsigned_t<T>;
  start &= 0xff;
  length &= 0xff;
  if (length == 0) return 0;
  const uint32_t top = std::min(start + length - 1, kBits - 1);
  const bool sign = std::is_signed_v<T> && (U(a) >> top & 1) != 0;
  U field = start < kBits ? U(a) >> start : 0;
  const uint32_t present = start < kBits ? std::min(length, kBits - start) : 0;
  if (present < kBits) {
    const U keep = (U(1) << present) - 1;
    field = (field & keep) | (sign ? U(~keep) : U(0));
  }
  return T(field);
}

template <class T>
void run_bfe(Warp& w, const Instruction& i, LaneMask m) {
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto* a = RegisterOf<T>::lanes(w, i[1]);
  const uint32_t *start = w.lanes32(i[2]), *length = w.lanes32(i[3]);
  each_lane(m, [=](int l) { d[l] = RegisterOf<T>::put(extract<T>(RegisterOf<T>::get(a[l]), start[l], length[l])); });
}

// bfi d, a, b, start, length: the low `length` bits of a into b.
template <class T>
void run_bfi(Warp& w, const Instruction& i, LaneMask m) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  auto* d = RegisterOf<T>::lanes(w, i[0]);
  const auto *a = RegisterOf<T>::lanes(w, i[1]), *b = RegisterOf<T>::lanes(w, i[2]);
  const uint32_t *start = w.lanes32(i[3]), *length = w.lanes32(i[4]);
  each_lane(m, [=](int l) {
    const uint32_t s = start[l] & 0xff, n = length[l] & 0xff;
    const T field = n >= kBits ? T(~T(0)) : T((T(1) << n) - 1);
    const T mask = s >= kBits ? T(0) : T(field << s);
    d[l] = (b[l] & ~mask) | ((s >= kBits ? T(0) : T(a[l] << s)) & mask);
  });
}

uint32_t byte_of(uint64_t both, uint32_t index) { return uint32_t(both >> (8 * (index & 7))) & 0xff; }

// The general form: each nibble of c selects a byte of {b, a}; its top bit replicates that byte's sign instead.
void run_prmt(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  each_lane(m, [=](int l) {
    const uint64_t both = uint64_t{b[l]} << 32 | a[l];
    uint32_t v = 0;
    for (uint32_t k = 0; k < 4; ++k) {
      const uint32_t selector = c[l] >> (4 * k) & 0xf, byte = byte_of(both, selector);
      v |= (selector & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << (8 * k);
    }
    d[l] = v;
  });
}

// The special modes: bytes chosen by the low two bits of c. variant[0]: f4e b4e rc8 ecl ecr rc16
void run_prmt_mode(Warp& w, const Instruction& i, LaneMask m) {
  uint32_t* d = w.lanes32(i[0]);
  const uint32_t *a = w.lanes32(i[1]), *b = w.lanes32(i[2]), *c = w.lanes32(i[3]);
  for (; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    const uint64_t both = uint64_t{b[l]} << 32 | a[l];
    const uint32_t s = c[l] & 3;
    uint32_t v = 0;
    for (uint32_t k = 0; k < 4; ++k) {
      uint32_t pick = 0;
      switch (i.variant[0]) {
        case 0:
          pick = s + k;
          break;  // four bytes upwards
        case 1:
          pick = (s - k) & 7;
          break;  // four bytes downwards
        case 2:
          pick = s;
          break;  // one byte four times
        case 3:
          pick = std::max(k, s);
          break;  // clamped from the left
        case 4:
          pick = std::min(k, s);
          break;  // clamped from the right
        default:
          pick = (s & 1) * 2 + (k & 1);
          break;  // one half twice
      }
      v |= byte_of(both, pick) << (8 * k);
    }
    d[l] = v;
  }
}

Handler prmt(Instruction& ins) {
  static constexpr std::string_view modes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  for (int mode = 0; mode < 6; ++mode) {
    ins.variant[0] = mode;
    if (ins.opcode.has(modes[mode])) return run_prmt_mode;
  }
  return run_prmt;
}

template <class T>
Handler find(const Opcode& op) {
  return op.has("shiftamt") ? run_unary<uint32_t, T, Find<T, true>> : run_unary<uint32_t, T, Find<T, false>>;
}

Handler bfind(const Opcode& op) {
  switch (op.type()) {
    case Type::u32:
      return find<uint32_t>(op);
    case Type::s32:
      return find<int32_t>(op);
    case Type::u64:
      return find<uint64_t>(op);
    case Type::s64:
      return find<int64_t>(op);
    default:
      return nullptr;
  }
}

Handler bfe(Type t) {
  switch (t) {
    case Type::u32:
      return run_bfe<uint32_t>;
    case Type::s32:
      return run_bfe<int32_t>;
    case Type::u64:
      return run_bfe<uint64_t>;
    case Type::s64:
      return run_bfe<int64_t>;
    default:
      return nullptr;
  }
}

}  // namespace

void select_bits(Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const bool wide = type_bits(op.type()) == 64;
  require_operands(ins, root == "bfi" ? 5 : root == "prmt" || root == "bfe" ? 4 : 2);
  if (root == "prmt") {
    ins.run = prmt(ins);
  } else if (root == "bfe") {
    ins.run = bfe(op.type());
  } else if (root == "bfi") {
    ins.run = wide ? run_bfi<uint64_t> : run_bfi<uint32_t>;
  } else if (root == "popc") {
    ins.run =
        wide ? run_unary<uint32_t, uint64_t, PopCount<uint64_t>> : run_unary<uint32_t, uint32_t, PopCount<uint32_t>>;
  } else if (root == "clz") {
    ins.run = wide ? run_unary<uint32_t, uint64_t, LeadingZeros<uint64_t>>
                   : run_unary<uint32_t, uint32_t, LeadingZeros<uint32_t>>;
  } else if (root == "brev") {
    ins.run =
        wide ? run_unary<uint64_t, uint64_t, Reverse<uint64_t>> : run_unary<uint32_t, uint32_t, Reverse<uint32_t>>;
  } else if (root == "bfind") {
    ins.run = bfind(op);
  }
}

}  // namespace inferd::ptxsim
