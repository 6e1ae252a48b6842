// Parses the body of one entry point into decoded instructions.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/ptxsim/module.h"
#include "tests/ptxsim/token_stream.h"

namespace inferd::ptxsim {

/// Bytes of a block's shared memory before its dynamic part, if these variables lie there, one behind the other.
/// `place(variable, offset)` is told where each is.
template <class F>
size_t lay_out_shared(const std::vector<Declaration>& variables, F&& place) {
  constexpr size_t kDynamicSharedAlign = 128;
  size_t bytes = 0;
  for (const Declaration& declared : variables) {
    bytes = align_up(bytes, declared.align);
    place(declared, bytes);
    bytes += declared.bytes;
  }
  return align_up(bytes, kDynamicSharedAlign);
}

class KernelParser {
 public:
  struct Context {
    TokenStream& in;
    const std::map<std::string, GlobalVariable>& globals;
    std::deque<Constant>& constants;
    const std::vector<Declaration>& shared;          // static shared variables of the kernel
    const std::vector<std::string>& dynamic_shared;  // names of extern shared arrays
    const std::vector<Declaration>& module_shared;   // static shared variables of module scope
  };
  KernelParser(Context context, Kernel& kernel) : in_(context.in), context_(context), kernel_(kernel) {}

  /// Consumes `{ body }`; fills the kernel's code, registers and layout.
  void run();

 private:
  struct Branch {
    int instruction;
    std::string label;
    int line;
  };

  void place_shared();
  void statement();
  void declare_registers();
  void declare_local();
  void location();
  void instruction();
  void set_flow(Instruction& ins);

  Operand operand(Instruction& ins);
  Operand address(Instruction& ins);
  Operand vector(Instruction& ins);
  Operand named(const std::string& name);
  Operand number();
  Operand new_register(Type type);
  Operand constant(uint64_t value);
  const Operand* find(const std::string& name) const;

  TokenStream& in_;
  Context context_;
  Kernel& kernel_;
  std::vector<std::map<std::string, Operand>> scopes_;
  std::map<std::string, int> labels_;
  std::map<std::string, uint64_t> symbols_;  // shared and local variables: offset in their space
  std::map<uint64_t, const Constant*> constants_;
  std::vector<Branch> branches_;
  std::vector<SourcePlace> places_;                                 // of the last .loc
  std::map<std::array<int, 3>, std::vector<SourcePlace>> located_;  // by file, line and column of each .loc
};

}  // namespace inferd::ptxsim
