// The words every part of the PTX interpreter uses: lanes, dimensions, PTX types, the two kinds of error.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace inferd::ptxsim {

using LaneMask = uint32_t;  // bit l = lane l of a warp
constexpr int kWarpSize = 32;
constexpr LaneMask kAllLanes = ~0u;

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  uint64_t count() const { return uint64_t{x} * y * z; }
};

/// PTX fundamental and packed types. `none` is what parse_type() answers to a word that is no type.
enum class Type : uint8_t {
  none,
  pred,
  b8,
  b16,
  b32,
  b64,
  b128,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  f16x2,
  bf16,
  bf16x2,
  tf32,
  f32,
  f64,
  e4m3x2,
  e5m2x2,
  u4,
  s4,
  u16x2,
  s16x2,
};

Type parse_type(std::string_view word);
/// Bits a value of the type takes; 1 for pred.
int type_bits(Type type);
constexpr bool is_signed(Type t) { return t == Type::s8 || t == Type::s16 || t == Type::s32 || t == Type::s64; }

/// The PTX text cannot be taken up: syntax, or an instruction the interpreter does not know. Names the PTX line.
class ParseError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What a launch did wrong. Thrown by launch(); the message names kernel, source line, instruction and block/thread.
class Violation : public std::runtime_error {
 public:
  enum class Kind {
    bounds,
    alignment,
    uninitialised,
    race,
    divergence,
    copy_not_waited,
    trap,
    endless,
    bad_launch,
  };
  Violation(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

}  // namespace inferd::ptxsim
