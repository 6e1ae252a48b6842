// A parsed PTX module: kernels with their parameters, shared and local layout, and the module's global variables.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/ptxsim/instruction.h"

namespace inferd::ptxsim {

struct Parameter {
  std::string name;
  size_t offset = 0, bytes = 0;  // in the parameter buffer
};

/// A %special register a kernel reads; its value is put into 32-bit register `index` when a block starts.
struct SpecialRegister {
  std::string name;  // "%tid.x"
  int index = 0;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  size_t parameter_bytes = 0;
  std::vector<Instruction> code;
  int num_reg32 = 0, num_reg64 = 0, num_predicates = 0;
  std::vector<SpecialRegister> specials;
  size_t static_shared_bytes = 0;    // dynamic shared memory begins here
  size_t local_bytes = 0;            // per thread
  unsigned max_threads = 1024;       // .maxntid / .reqntid
  std::map<int, std::string> files;  // .file numbers

  /// "gemm.cu:12 (ptx 345) `add.s32 ...`", for messages.
  std::string describe(const Instruction& instruction) const;
};

/// A .global or .const variable. Its storage is the module's; kernels see its address.
struct GlobalVariable {
  std::shared_ptr<std::vector<uint8_t>> storage;  // initial value, then whatever kernels wrote
  bool writable = true;
};

struct Outline;

/// Kernels are decoded when they are first asked for: a program runs few of those it loads.
class Module {
 public:
  /// Parses PTX as nvcc emits it (64-bit addresses, entry points only), without the bodies of its kernels. Throws
  /// ParseError.
  static Module parse(std::string text);

  /// The decoded kernel. Throws ParseError, naming the kernel if there is none of that name.
  Kernel& kernel(const std::string& name);
  /// Parameters, launch bounds and static shared memory of a kernel, without decoding it. Throws likewise.
  const Kernel& declared(const std::string& name);
  std::vector<std::string> kernel_names() const;
  bool has_kernel(const std::string& name) const { return kernels_.count(name) != 0; }
  const std::map<std::string, GlobalVariable>& globals() const { return globals_; }
  /// "sm_80" as .target says.
  const std::string& target() const { return target_; }

 private:
  friend class ModuleParser;
  Kernel& find(const std::string& name);

  std::map<std::string, Kernel> kernels_;
  std::map<std::string, GlobalVariable> globals_;
  std::string target_;
  std::shared_ptr<std::deque<Constant>> constants_ = std::make_shared<std::deque<Constant>>();
  std::shared_ptr<Outline> outline_;  // what decoding needs
};

/// Gives `instruction` its handler from its opcode. Throws ParseError naming the PTX line if the opcode is not known.
void select_handler(Instruction& instruction);

}  // namespace inferd::ptxsim
