// The body of an entry point: declarations, labels, instructions, operands.
#include "tests/ptxsim/kernel_parser.h"

#include <set>

#include "tests/ptxsim/special_registers.h"

namespace inferd::ptxsim {
namespace {

constexpr int kMaxRegisters = 1 << 16;

std::vector<std::string> split_opcode(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == '.') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  // .shared::cta is .shared written at length.
  for (std::string& word : words) {
    if (word == "shared::cta") word = "shared";
    if (word == "param::entry") word = "param";
  }
  return words;
}

bool begins_number(const Token& token) {
  return token.is("-") || (!token.text.empty() && token.text[0] >= '0' && token.text[0] <= '9');
}

}  // namespace

void KernelParser::run() {
  place_shared();
  in_.expect("{");
  scopes_.emplace_back();
  while (!scopes_.empty()) statement();

  Instruction end;  // falling off the end is a return
  end.opcode = {"ret", {"ret"}};
  end.text = "ret";
  end.index = int(kernel_.code.size());
  end.flow = Flow::exit;
  kernel_.code.push_back(end);
  for (const Branch& branch : branches_) {
    const auto label = labels_.find(branch.label);
    if (label == labels_.end()) {
      throw ParseError("ptx line " + std::to_string(branch.line) + ": no label '" + branch.label + "'");
    }
    kernel_.code[size_t(branch.instruction)].target = label->second;
  }
}

// Static shared variables come first in the block's shared memory, so that the dynamic part can follow them.
void KernelParser::place_shared() {
  std::vector<Declaration> used = context_.shared;
  const size_t start = in_.position();
  if (!context_.module_shared.empty()) {
    std::set<std::string_view> words;
    while (!in_.at_end()) words.insert(in_.next().text);
    for (const Declaration& declared : context_.module_shared) {
      if (words.count(declared.name) != 0) used.push_back(declared);
    }
  }
  in_.seek(start);
  const auto place = [&](const Declaration& declared, size_t offset) { symbols_[declared.name] = offset; };
  kernel_.static_shared_bytes = lay_out_shared(used, place);
  for (const std::string& name : context_.dynamic_shared) symbols_[name] = kernel_.static_shared_bytes;
}

void KernelParser::statement() {
  const Token token = in_.peek();
  if (in_.accept("{")) {
    scopes_.emplace_back();
  } else if (in_.accept("}")) {
    scopes_.pop_back();
  } else if (in_.accept(";")) {
    // empty
  } else if (token.is(".reg")) {
    declare_registers();
  } else if (token.is(".shared")) {
    in_.next();
    parse_declaration(in_);  // placed by place_shared()
    in_.expect(";");
  } else if (token.is(".local")) {
    declare_local();
  } else if (token.is(".loc")) {
    location();
  } else if (token.is(".pragma")) {
    while (!in_.accept(";")) in_.next();
  } else if (token.kind == Token::Kind::word && in_.peek(1).is(":")) {
    labels_[in_.word()] = int(kernel_.code.size());
    in_.expect(":");
  } else if (token.text.substr(0, 1) == ".") {
    in_.fail("'" + std::string(token.text) + "' is not known");
  } else {
    instruction();
  }
}

void KernelParser::declare_registers() {
  in_.expect(".reg");
  const Type type = parse_type(in_.word().substr(1));
  if (type == Type::none || type == Type::b128) in_.fail("a register of an unknown type");
  do {
    const std::string name = in_.word();
    if (in_.accept("<")) {
      const int64_t count = in_.integer();
      if (count < 0 || count > kMaxRegisters) in_.fail("too many registers");
      in_.expect(">");
      for (int64_t i = 0; i < count; ++i) scopes_.back()[name + std::to_string(i)] = new_register(type);
    } else {
      scopes_.back()[name] = new_register(type);
    }
  } while (in_.accept(","));
  in_.expect(";");
}

void KernelParser::declare_local() {
  in_.expect(".local");
  const Declaration declared = parse_declaration(in_);
  in_.expect(";");
  kernel_.local_bytes = align_up(kernel_.local_bytes, declared.align);
  symbols_[declared.name] = kernel_.local_bytes;
  kernel_.local_bytes += declared.bytes;
}

void KernelParser::location() {
  const int line = in_.peek().line;
  in_.expect(".loc");
  const auto place = [&] {
    const int file = int(in_.integer()), source_line = int(in_.integer());
    return std::array<int, 3>{file, source_line, int(in_.integer())};
  };
  const std::array<int, 3> at = place();
  std::vector<SourcePlace> places = {{at[0], at[1]}};
  while (!in_.at_end() && in_.peek().line == line) {
    if (!in_.next().is("inlined_at")) continue;
    // Where the caller was inlined is what the last location there said.
    const std::array<int, 3> caller = place();
    const auto callers = located_.find(caller);
    if (callers != located_.end()) {
      places.insert(places.end(), callers->second.begin(), callers->second.end());
    } else {
      places.push_back({caller[0], caller[1]});
    }
  }
  if (at[1] != 0) located_[at] = places_ = places;  // of no line: the last one stays
}

Operand KernelParser::new_register(Type type) {
  Operand o;
  if (type == Type::pred) {
    o.kind = Operand::Kind::predicate;
    o.index = kernel_.num_predicates++;
  } else if (type_bits(type) == 64) {
    o.kind = Operand::Kind::reg64;
    o.index = kernel_.num_reg64++;
  } else {
    o.kind = Operand::Kind::reg32;
    o.index = kernel_.num_reg32++;
  }
  if (o.index > kMaxRegisters) in_.fail("too many registers");
  return o;
}

Operand KernelParser::constant(uint64_t value) {
  const Constant*& known = constants_[value];
  if (known == nullptr) {
    Constant& added = context_.constants.emplace_back();
    added.w32.fill(uint32_t(value));
    added.w64.fill(value);
    known = &added;
  }
  Operand o;
  o.constant = known;
  return o;
}

const Operand* KernelParser::find(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(name);
    if (found != scope->end()) return &found->second;
  }
  return nullptr;
}

// A register, a special register, or a variable's address.
Operand KernelParser::named(const std::string& name) {
  if (const Operand* known = find(name)) return *known;
  if (name[0] == '%') {
    Operand special = new_register(Type::u32);
    if (find_special_register(name) == nullptr) in_.fail("the special register " + name + " is not known");
    kernel_.specials.push_back({name, special.index});
    scopes_.front()[name] = special;
    return special;
  }
  if (name == "WARP_SZ") return constant(kWarpSize);
  if (const auto symbol = symbols_.find(name); symbol != symbols_.end()) return constant(symbol->second);
  if (const auto global = context_.globals.find(name); global != context_.globals.end()) {
    return constant(reinterpret_cast<uint64_t>(global->second.storage->data()));
  }
  for (const Parameter& parameter : kernel_.parameters) {
    if (parameter.name == name) return constant(parameter.offset);
  }
  in_.fail("'" + name + "' is not declared");
}

Operand KernelParser::number() {
  const std::string_view text = in_.peek().text;
  if (text.substr(0, 2) == "0f" || text.substr(0, 2) == "0F") {
    return constant(std::strtoull(in_.word().c_str() + 2, nullptr, 16));
  }
  if (text.substr(0, 2) == "0d" || text.substr(0, 2) == "0D") {
    return constant(std::strtoull(in_.word().c_str() + 2, nullptr, 16));
  }
  return constant(uint64_t(in_.integer()));
}

Operand KernelParser::vector(Instruction& ins) {
  in_.expect("{");
  std::vector<Operand> members;
  do members.push_back(operand(ins));
  while (in_.accept(","));
  in_.expect("}");
  Operand o;
  o.kind = Operand::Kind::vector;
  o.first = int(ins.elements.size());
  o.count = int(members.size());
  ins.elements.insert(ins.elements.end(), members.begin(), members.end());
  return o;
}

// [base], [base + offset], [parameter + offset] or [variable + offset]
Operand KernelParser::address(Instruction& ins) {
  in_.expect("[");
  Operand o;
  o.kind = Operand::Kind::address;
  Operand base;
  const Token first = in_.peek();
  const bool literal = begins_number(first);
  base = literal ? number() : named(in_.word());
  if (in_.accept("+")) o.offset = in_.integer();
  in_.expect("]");
  o.first = int(ins.elements.size());
  o.count = 1;
  ins.elements.push_back(base);
  return o;
}

Operand KernelParser::operand(Instruction& ins) {
  const Token token = in_.peek();
  if (token.is("{")) return vector(ins);
  if (token.is("[")) return address(ins);
  if (in_.accept("!")) {
    Operand o = named(in_.word());
    o.negated = true;
    return o;
  }
  if (begins_number(token)) return number();
  if (in_.accept("_")) {  // a sink: a place of its own that nobody reads
    Operand o;
    o.constant = &context_.constants.emplace_back();
    return o;
  }
  return named(in_.word());
}

void KernelParser::set_flow(Instruction& ins) {
  const std::string& root = ins.opcode.root();
  const bool warp = ins.opcode.has("warp");
  if (root == "bra") ins.flow = Flow::branch;
  if (root == "ret" || root == "exit") ins.flow = Flow::exit;
  if ((root == "bar" || root == "barrier") && !warp) ins.flow = Flow::barrier;
  const bool sync = ins.opcode.has("sync");
  if (sync && (root == "shfl" || root == "vote" || root == "match" || root == "redux" || warp)) {
    ins.flow = Flow::collective;
    ins.mask_operand = int(ins.operands.size()) - 1;
  }
  if (root == "mma" || root == "ldmatrix" || root == "stmatrix" || root == "movmatrix") ins.flow = Flow::whole_warp;
}

void KernelParser::instruction() {
  Instruction ins;
  ins.index = int(kernel_.code.size());
  ins.ptx_line = in_.peek().line;
  ins.places = places_;
  const size_t start = in_.position();
  if (in_.accept("@")) {
    ins.guard_negated = in_.accept("!");
    const Operand guard = named(in_.word());
    if (guard.kind != Operand::Kind::predicate) in_.fail("a guard that is no predicate");
    ins.guard = guard.index;
  }
  ins.opcode.text = in_.word();
  ins.opcode.words = split_opcode(ins.opcode.text);
  if (ins.opcode.root() == "bra") {
    branches_.push_back({ins.index, in_.word(), ins.ptx_line});
  } else {
    while (!in_.peek().is(";")) {
      ins.operands.push_back(operand(ins));
      if (!in_.accept(",") && !in_.accept("|")) break;
    }
  }
  const size_t end = in_.position();
  in_.expect(";");
  in_.seek(start);
  while (in_.position() < end) {
    const Token token = in_.next();
    const bool glue = token.is(",") || token.is(";") || token.is("]") || token.is("}") || ins.text.empty() ||
                      ins.text.back() == '[' || ins.text.back() == '{' || ins.text.back() == '@' ||
                      ins.text.back() == '!' || ins.text.back() == '-';
    ins.text += (glue ? "" : " ") + std::string(token.text);
  }
  in_.expect(";");
  set_flow(ins);
  if (ins.flow != Flow::branch && ins.flow != Flow::exit) select_handler(ins);
  kernel_.code.push_back(std::move(ins));
}

}  // namespace inferd::ptxsim
