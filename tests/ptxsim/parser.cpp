// The module level of PTX: directives, variables, and the frame of each entry point, whose body is decoded on demand.
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

struct Outline {
  struct Body {
    std::string_view text;  // with its braces, into Outline::text
    int line = 0;
    std::vector<Declaration> shared;  // its static shared variables
  };
  std::string text;
  std::map<std::string, Body> bodies;       // by kernel
  std::vector<std::string> dynamic_shared;  // names of extern shared arrays
  std::vector<Declaration> module_shared;   // static shared variables of module scope
};

class ModuleParser {
 public:
  explicit ModuleParser(std::string text)
      : outline_(std::make_shared<Outline>(Outline{std::move(text), {}, {}, {}})),
        in_(tokenize_outline(outline_->text)) {}

  Module run() {
    while (!in_.at_end()) statement();
    for (auto& [name, kernel] : module_.kernels_) kernel.files = files_;
    module_.outline_ = std::move(outline_);
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
      outline_->dynamic_shared.push_back(declared.name);
    } else {
      outline_->module_shared.push_back(declared);
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
    Outline::Body body;
    while (in_.peek().kind != Token::Kind::body) {
      if (in_.accept(".shared")) {
        body.shared.push_back(parse_declaration(in_));
      } else {
        launch_directive(kernel);
      }
    }
    const Token whole = in_.next();
    body.text = whole.text;
    body.line = whole.line;
    kernel.static_shared_bytes = lay_out_shared(body.shared, [](const Declaration&, size_t) {});
    outline_->bodies[kernel.name] = std::move(body);
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

  std::shared_ptr<Outline> outline_;
  TokenStream in_;
  Module module_;
  std::map<int, std::string> files_;
  bool extern_ = false;
};

Module Module::parse(std::string text) { return ModuleParser(std::move(text)).run(); }

Kernel& Module::find(const std::string& name) {
  const auto found = kernels_.find(name);
  if (found == kernels_.end()) throw ParseError("the module has no kernel '" + name + "'");
  return found->second;
}

Kernel& Module::kernel(const std::string& name) {
  Kernel& known = find(name);
  if (!known.code.empty()) return known;
  const Outline::Body& body = outline_->bodies.at(name);
  TokenStream in(tokenize(body.text, body.line));
  Kernel decoded = known;
  KernelParser({in, globals_, *constants_, body.shared, outline_->dynamic_shared, outline_->module_shared}, decoded)
      .run();
  return known = std::move(decoded);
}

// Which variables of module scope a kernel uses is known only from its body.
const Kernel& Module::declared(const std::string& name) {
  return outline_->module_shared.empty() ? find(name) : kernel(name);
}

std::vector<std::string> Module::kernel_names() const {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : kernels_) names.push_back(name);
  return names;
}

}  // namespace inferd::ptxsim
