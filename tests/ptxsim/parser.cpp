// The module level of PTX: directives, variables, and the frame of each entry point.
#include <algorithm>

#include "tests/ptxsim/kernel_parser.h"
#include "tests/ptxsim/module.h"
#include "tests/ptxsim/token_stream.h"

namespace inferd::ptxsim {

constexpr size_t kMaxVariableBytes = size_t{1} << 30;

Declaration parse_declaration(TokenStream& in) {
  Declaration result;
  while (in.peek().text.substr(0, 1) == ".") {
    const std::string word = in.word();
    if (word == ".align") {
      result.align = size_t(in.integer());
    } else if (const Type type = parse_type(std::string_view(word).substr(1)); type != Type::none) {
      result.type = type;
    } else if (word == ".ptr") {  // a pointer parameter: .ptr .global .align 8, of no consequence here
      while (in.peek().text.substr(0, 1) == ".") {
        if (in.word() == ".align") in.integer();
      }
    }
  }
  if (result.type == Type::none) in.fail("a variable without a type");
  result.name = in.word();
  size_t bytes = size_t(type_bits(result.type)) / 8;
  if (result.align == 0) result.align = bytes;
  while (in.accept("[")) {
    bytes *= in.peek().is("]") ? 0 : size_t(in.integer());
    if (bytes > kMaxVariableBytes) in.fail("'" + result.name + "' is too large");
    in.expect("]");
  }
  result.bytes = bytes;
  return result;
}

class ModuleParser {
 public:
  explicit ModuleParser(std::string_view text) : in_(tokenize(text)) {}

  Module run() {
    while (!in_.at_end()) statement();
    for (auto& [name, kernel] : module_.kernels_) kernel.files = files_;
    return std::move(module_);
  }

 private:
  void statement() {
    const std::string word = in_.word();
    if (word == ".version" || word == ".address_size") {
      in_.skip_line();
    } else if (word == ".target") {
      module_.target_ = in_.word();
      in_.skip_line();
    } else if (word == ".file") {
      const int number = int(in_.integer());
      if (in_.peek().kind == Token::Kind::string) files_[number] = std::string(in_.peek().text);
      in_.skip_line();
    } else if (word == ".section") {
      in_.word();
      in_.skip_braces();
    } else if (word == ".visible" || word == ".weak" || word == ".common") {
      // Linkage has no meaning for a single module.
    } else if (word == ".extern") {
      extern_ = true;
    } else if (word == ".entry") {
      entry();
    } else if (word == ".func") {
      in_.fail("device functions are not supported: inline them (__forceinline__)");
    } else if (word == ".global" || word == ".const") {
      variable(word == ".global");
    } else if (word == ".shared") {
      shared_variable();
    } else {
      in_.fail("'" + word + "' is not known");
    }
  }

  void variable(bool writable) {
    const Declaration declared = parse_declaration(in_);
    auto storage = std::make_shared<std::vector<uint8_t>>(declared.bytes);
    if (in_.accept("=")) {
      const size_t width = size_t(type_bits(declared.type)) / 8;
      size_t at = 0;
      const bool list = in_.accept("{");
      do {
        if (list && in_.peek().is("}")) break;
        const uint64_t value = initial_value();
        if (at + width > storage->size()) in_.fail("'" + declared.name + "' has more values than room");
        for (size_t i = 0; i < width; ++i) (*storage)[at++] = uint8_t(value >> (8 * i));
      } while (list && in_.accept(","));
      if (list) in_.expect("}");
    }
    in_.expect(";");
    module_.globals_[declared.name] = {std::move(storage), writable};
  }

  uint64_t initial_value() {
    const std::string_view text = in_.peek().text;
    if (text.substr(0, 2) == "0f" || text.substr(0, 2) == "0d") {
      return std::strtoull(in_.word().c_str() + 2, nullptr, 16);
    }
    return uint64_t(in_.integer());
  }

  void shared_variable() {
    const Declaration declared = parse_declaration(in_);
    in_.expect(";");
    if (extern_) {
      dynamic_shared_.push_back(declared.name);
    } else {
      module_shared_.push_back(declared);
    }
    extern_ = false;
  }

  void entry() {
    Kernel kernel;
    kernel.name = in_.word();
    if (in_.accept("(")) {
      while (!in_.accept(")")) {
        if (in_.word() != ".param") in_.fail("expected .param");
        const Declaration declared = parse_declaration(in_);
        kernel.parameter_bytes = align_up(kernel.parameter_bytes, declared.align);
        kernel.parameters.push_back({declared.name, kernel.parameter_bytes, declared.bytes});
        kernel.parameter_bytes += declared.bytes;
        in_.accept(",");
      }
    }
    while (!in_.peek().is("{")) launch_directive(kernel);
    KernelParser({in_, module_.globals_, *module_.constants_, dynamic_shared_, module_shared_}, kernel).run();
    module_.kernels_[kernel.name] = std::move(kernel);
  }

  void launch_directive(Kernel& kernel) {
    const std::string word = in_.word();
    if (word == ".maxntid" || word == ".reqntid") {
      kernel.max_threads = unsigned(in_.integer());
      while (in_.accept(",")) kernel.max_threads *= unsigned(in_.integer());
    } else if (word == ".minnctapersm" || word == ".maxnreg") {
      in_.integer();
    } else {
      in_.fail("'" + word + "' before a kernel's body is not known");
    }
  }

  TokenStream in_;
  Module module_;
  std::map<int, std::string> files_;
  std::vector<std::string> dynamic_shared_;
  std::vector<Declaration> module_shared_;
  bool extern_ = false;
};

Module Module::parse(std::string_view text) { return ModuleParser(text).run(); }

}  // namespace inferd::ptxsim
