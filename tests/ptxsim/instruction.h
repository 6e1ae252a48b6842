// One decoded PTX instruction: its words, its operands and the function that runs it over the lanes of a warp.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/ptxsim/types.h"

namespace inferd::ptxsim {

class Warp;
struct Instruction;

/// Runs an instruction for the lanes of `lanes` (never empty).
using Handler = void (*)(Warp& warp, const Instruction& instruction, LaneMask lanes);

/// An immediate or an address known at parse time, spread over the lanes in both register widths.
struct Constant {
  alignas(64) std::array<uint32_t, kWarpSize> w32;
  alignas(64) std::array<uint64_t, kWarpSize> w64;
};

struct Operand {
  enum class Kind : uint8_t {
    reg32,      // a register of up to 32 bits; `index` into the warp's 32-bit file
    reg64,      // likewise, 64 bits
    predicate,  // `index` into the warp's predicates; `negated` if written !p
    constant,   // `constant` is set
    vector,     // {a, b, ..}: `count` elements from `first` in Instruction::elements
    address,    // [base + offset]: the base is elements[first]; count 0 means no base register (kernel parameters)
  };
  Kind kind = Kind::constant;
  bool negated = false;
  int index = 0;
  const Constant* constant = nullptr;
  int first = 0, count = 0;
  int64_t offset = 0;
};

/// The dotted words of an opcode: "ld.global.v2.u32" is {"ld", "global", "v2", "u32"}.
struct Opcode {
  std::string text;
  std::vector<std::string> words;

  const std::string& root() const { return words[0]; }
  bool has(std::string_view word) const;
  /// The `nth` type word counted from the end (0 = the last), or Type::none.
  Type type(int nth = 0) const;
};

/// How the executor treats an instruction before or instead of running its handler.
enum class Flow : uint8_t {
  plain,
  branch,
  exit,
  barrier,
  collective,  // needs the lanes its mask operand names, met at this instruction
  whole_warp,  // needs all 32 lanes
};

/// A line of one of Kernel::files.
struct SourcePlace {
  int file = 0, line = 0;
};

struct Instruction {
  Opcode opcode;
  std::string text;  // as written, without the final ';'
  int index = 0;     // place in Kernel::code
  int ptx_line = 0;
  std::vector<SourcePlace> places;  // of the last .loc, then where that was inlined, where that was, and so on

  int guard = -1;  // predicate register of @p, or -1
  bool guard_negated = false;
  Flow flow = Flow::plain;
  int target = -1;       // branch: index of the instruction to go to
  int mask_operand = 0;  // collective: the operand with the member mask
  Handler run = nullptr;
  std::vector<Operand> operands;
  std::vector<Operand> elements;     // of vector and address operands
  std::array<int32_t, 6> variant{};  // what the selector of the instruction left for its handler

  const Operand& operator[](size_t i) const { return operands[i]; }
  const Operand& element(const Operand& vector, int i) const { return elements[size_t(vector.first + i)]; }
};

}  // namespace inferd::ptxsim
