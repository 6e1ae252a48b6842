// Finding, planting and judging mutations.
#include "tests/ptxsim/mutation.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <sstream>

#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {
namespace {

void do_nothing(Warp&, const Instruction&, LaneMask) {}

void keep_own_value(Warp& w, const Instruction& i, LaneMask lanes) {
  uint32_t* d = w.lanes32(i[0]);
  const bool has_predicate = i.operands.size() == 6;
  const uint32_t* a = w.lanes32(i[has_predicate ? 2 : 1]);
  for (int l = 0; l < kWarpSize; ++l) {
    if (lanes >> l & 1) d[l] = a[l];
  }
  if (has_predicate) w.set_predicate(i[1], lanes, lanes);
}

const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::drop_barrier:
      return "barrier dropped";
    case Fault::shorten_wait:
      return "wait shortened";
    case Fault::shift_compare:
      return "compare off by one";
    case Fault::drop_store:
      return "store dropped";
    case Fault::swap_operands:
      return "operands swapped";
    case Fault::drop_addend:
      return "addend dropped";
    case Fault::lose_shuffle:
      return "shuffle lost";
  }
  return "";
}

std::string shifted_compare(const std::string& word) {
  static const std::array<std::pair<const char*, const char*>, 10> pairs = {{
      {"lt", "le"},
      {"le", "lt"},
      {"gt", "ge"},
      {"ge", "gt"},
      {"eq", "ne"},
      {"ne", "eq"},
      {"lo", "ls"},
      {"ls", "lo"},
      {"hi", "hs"},
      {"hs", "hi"},
  }};
  for (const auto& [from, to] : pairs) {
    if (word == from) return to;
  }
  return "";
}

std::optional<Fault> fault_of(const Instruction& ins) {
  const Opcode& op = ins.opcode;
  const std::string& root = op.root();
  const Type t = op.type();
  const bool integer = t != Type::f32 && t != Type::f64 && t != Type::f16 && t != Type::bf16;
  if (ins.flow == Flow::barrier || (root == "bar" && op.has("warp"))) return Fault::drop_barrier;
  if (root == "cp" && op.has("wait_group")) return Fault::shorten_wait;
  if (root == "setp" && integer && !shifted_compare(op.words[1]).empty()) return Fault::shift_compare;
  if (root == "st") return Fault::drop_store;
  if (root == "mma") return Fault::swap_operands;
  if ((root == "fma" || root == "mad") && !op.has("wide") && type_bits(t) == 32) return Fault::drop_addend;
  if (root == "shfl") return Fault::lose_shuffle;
  return std::nullopt;
}

std::string place_of(const Kernel& kernel, const Instruction& ins) {
  const auto file = kernel.files.find(ins.source_file);
  if (ins.source_line > 0 && file != kernel.files.end()) {
    const std::string& path = file->second;
    return path.substr(path.rfind('/') + 1) + ":" + std::to_string(ins.source_line) + " " + ins.opcode.text;
  }
  int before = 0;
  for (int i = 0; i < ins.index; ++i) before += kernel.code[size_t(i)].opcode.text == ins.opcode.text;
  return ins.opcode.text + " #" + std::to_string(before);
}

}  // namespace

std::vector<Mutation> list_mutations(const Kernel& kernel, Profile& profile) {
  std::vector<Mutation> result;
  const auto& counters = profile.of(kernel);
  for (const Instruction& ins : kernel.code) {
    if (counters[size_t(ins.index)].executions == 0) continue;
    if (const std::optional<Fault> fault = fault_of(ins)) {
      result.push_back(
          {kernel.name, ins.index, *fault, kernel.name + "|" + name_of(*fault) + "|" + place_of(kernel, ins)});
    }
  }
  return result;
}

Mutated::Mutated(Module& module, const Mutation& mutation)
    : place_(module.kernel(mutation.kernel).code[size_t(mutation.instruction)]),
      original_(place_),
      constant_(std::make_unique<Constant>()) {
  switch (mutation.fault) {
    case Fault::drop_barrier:
      place_.flow = Flow::plain;
      place_.run = do_nothing;
      break;
    case Fault::drop_store:
      place_.run = do_nothing;
      break;
    case Fault::lose_shuffle:
      place_.run = keep_own_value;
      break;
    case Fault::shorten_wait:
      constant_->w32.fill(place_[0].constant->w32[0] + 1);
      place_.operands[0].constant = constant_.get();
      break;
    case Fault::drop_addend:
      constant_->w32.fill(0);
      constant_->w64.fill(0);
      place_.operands[3] = Operand{};
      place_.operands[3].constant = constant_.get();
      break;
    case Fault::shift_compare:
      place_.opcode.words[1] = shifted_compare(place_.opcode.words[1]);
      select_handler(place_);
      break;
    case Fault::swap_operands: {
      const Operand& factor = place_[2].count >= 2 ? place_[2] : place_[1];
      std::swap(place_.elements[size_t(factor.first)], place_.elements[size_t(factor.first) + 1]);
      break;
    }
  }
}

Mutated::~Mutated() { place_ = original_; }

MutationReport run_mutations(Module& module, const std::string& kernel, Profile& profile,
                             const std::function<bool()>& notices) {
  MutationReport report;
  for (const Mutation& mutation : list_mutations(module.kernel(kernel), profile)) {
    const Mutated mutated(module, mutation);
    ++report.tried;
    bool noticed = true;
    try {
      noticed = notices();
    } catch (const Violation&) {
    }
    if (!noticed) report.survivors.push_back(mutation);
  }
  return report;
}

ReviewedSurvivors ReviewedSurvivors::parse(const std::string& text) {
  ReviewedSurvivors result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const size_t mark = line.find("  #");
    const std::string key = line.substr(0, mark);
    if (key.empty() || key[0] == '#') continue;
    if (mark == std::string::npos) throw ParseError("a reviewed survivor without a reason: " + line);
    result.reasons_[key] = line.substr(mark + 3);
  }
  return result;
}

std::vector<std::string> ReviewedSurvivors::unexpected(const MutationReport& report) const {
  std::vector<std::string> result;
  for (const Mutation& survivor : report.survivors) {
    if (reasons_.count(survivor.key) == 0) result.push_back(survivor.key);
  }
  return result;
}

std::vector<std::string> ReviewedSurvivors::stale(const MutationReport& report) const {
  std::vector<std::string> result;
  for (const auto& [key, reason] : reasons_) {
    const bool lives =
        std::any_of(report.survivors.begin(), report.survivors.end(), [&](const Mutation& m) { return m.key == key; });
    if (!lives) result.push_back(key);
  }
  return result;
}

}  // namespace inferd::ptxsim
