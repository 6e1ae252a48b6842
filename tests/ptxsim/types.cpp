// Names and sizes of the PTX types.
#include "tests/ptxsim/types.h"

#include <array>
#include <utility>

namespace inferd::ptxsim {
namespace {
struct TypeRow {
  std::string_view name;
  Type type;
  int bits;
};
constexpr std::array kTypes = {
    TypeRow{"pred", Type::pred, 1},      TypeRow{"b8", Type::b8, 8},          TypeRow{"b16", Type::b16, 16},
    TypeRow{"b32", Type::b32, 32},       TypeRow{"b64", Type::b64, 64},       TypeRow{"b128", Type::b128, 128},
    TypeRow{"u8", Type::u8, 8},          TypeRow{"u16", Type::u16, 16},       TypeRow{"u32", Type::u32, 32},
    TypeRow{"u64", Type::u64, 64},       TypeRow{"s8", Type::s8, 8},          TypeRow{"s16", Type::s16, 16},
    TypeRow{"s32", Type::s32, 32},       TypeRow{"s64", Type::s64, 64},       TypeRow{"f16", Type::f16, 16},
    TypeRow{"f16x2", Type::f16x2, 32},   TypeRow{"bf16", Type::bf16, 16},     TypeRow{"bf16x2", Type::bf16x2, 32},
    TypeRow{"tf32", Type::tf32, 32},     TypeRow{"f32", Type::f32, 32},       TypeRow{"f64", Type::f64, 64},
    TypeRow{"e4m3x2", Type::e4m3x2, 16}, TypeRow{"e5m2x2", Type::e5m2x2, 16}, TypeRow{"u4", Type::u4, 4},
    TypeRow{"s4", Type::s4, 4},          TypeRow{"u16x2", Type::u16x2, 32},   TypeRow{"s16x2", Type::s16x2, 32},
};
}  // namespace

Type parse_type(std::string_view word) {
  for (const TypeRow& row : kTypes) {
    if (row.name == word) return row.type;
  }
  return Type::none;
}

int type_bits(Type type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row.bits;
  }
  return 0;
}

}  // namespace inferd::ptxsim
