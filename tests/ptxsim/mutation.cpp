// Finding, planting and judging mutations.
#include "tests/ptxsim/mutation.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <map>
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

/// The two registers of a mma's factor that a fault swaps.
std::pair<const Operand*, const Operand*> swapped_operands(const Instruction& ins) {
  const Operand& factor = ins[2].count >= 2 ? ins[2] : ins[1];
  return {&ins.element(factor, 0), &ins.element(factor, 1)};
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
  if (root == "mma") {
    const auto [a, b] = swapped_operands(ins);
    const bool same = a->kind == b->kind && a->index == b->index && a->constant == b->constant;
    return same ? std::nullopt : std::optional(Fault::swap_operands);
  }
  if ((root == "fma" || root == "mad") && !op.has("wide") && type_bits(t) == 32) return Fault::drop_addend;
  if (root == "shfl") return Fault::lose_shuffle;
  return std::nullopt;
}

/// The words of a line of a file, a space between them; the line's number where the file cannot be read.
std::string text_of(const std::string& path, int line) {
  static std::map<std::string, std::vector<std::string>> files;
  const auto [file, is_new] = files.try_emplace(path);
  if (is_new) {
    std::ifstream in(path);
    for (std::string each; std::getline(in, each);) file->second.push_back(each);
  }
  if (size_t(line) > file->second.size()) return "line " + std::to_string(line);
  std::istringstream words(file->second[size_t(line) - 1]);
  std::string text;
  for (std::string word; words >> word;) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// Functions that stand for single instructions: who calls them says more.
bool is_primitive(const std::string& path) {
  return path.find("/kernels/cuda/") == std::string::npos || path.ends_with("/ptx.cuh");
}

std::string place_of(const Kernel& kernel, const Instruction& ins) {
  std::string path;
  int line = 0;
  for (const SourcePlace& place : ins.places) {  // from the own line to its callers
    const auto file = kernel.files.find(place.file);
    if (file == kernel.files.end()) break;
    path = file->second;
    line = place.line;
    if (!is_primitive(path)) break;
  }
  if (line > 0) return ins.opcode.text + " in " + path.substr(path.rfind('/') + 1) + ": " + text_of(path, line);
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

std::vector<Mutation> sample_mutations(const std::vector<Mutation>& all, size_t copies) {
  std::map<std::string, std::vector<const Mutation*>> by_key;
  for (const Mutation& mutation : all) by_key[mutation.key].push_back(&mutation);
  std::vector<Mutation> some;
  for (const auto& [key, same] : by_key) {
    const size_t count = std::min(copies, same.size());
    for (size_t i = 0; i < count; ++i) some.push_back(*same[i * same.size() / count]);
  }
  return some;
}

MutationReport run_mutations(Module& module, const std::vector<Mutation>& mutations,
                             const std::function<bool(const Mutation&)>& notices) {
  MutationReport report;
  for (const Mutation& mutation : mutations) {
    const Mutated mutated(module, mutation);
    ++report.tried;
    bool noticed = true;
    try {
      noticed = notices(mutation);
    } catch (const Violation&) {
    }
    if (!noticed) report.survivors.push_back(mutation);
  }
  return report;
}

bool is_named(const std::string& kernel, const std::string& pattern) {
  return fnmatch(pattern.c_str(), kernel.c_str(), 0) == 0;
}

bool ReviewedSurvivors::Entry::is_like(const Mutation& mutation) const {
  return mutation.key.substr(mutation.kernel.size() + 1) == rest && is_named(mutation.kernel, kernels);
}

ReviewedSurvivors ReviewedSurvivors::parse(const std::string& text) {
  ReviewedSurvivors result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const size_t mark = line.find("  #"), bar = line.find('|');
    if (line.empty() || line[0] == '#') continue;
    if (mark == std::string::npos) throw ParseError("a reviewed survivor without a reason: " + line);
    if (bar == std::string::npos) throw ParseError("expected kernel|fault|place  # reason, found: " + line);
    result.entries_.push_back({line.substr(0, bar), line.substr(bar + 1, mark - bar - 1)});
  }
  return result;
}

bool ReviewedSurvivors::has(const Mutation& mutation) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& each) { return each.is_like(mutation); });
}

std::vector<std::string> ReviewedSurvivors::unexpected(const MutationReport& report) const {
  std::vector<std::string> result;
  for (const Mutation& survivor : report.survivors) {
    if (!has(survivor)) result.push_back(survivor.key);
  }
  return result;
}

std::vector<std::string> ReviewedSurvivors::stale(const MutationReport& report,
                                                  const std::function<bool(const std::string&)>& judged) const {
  std::vector<std::string> result;
  for (const Entry& each : entries_) {
    if (!judged(each.kernels)) continue;
    const bool lives = std::any_of(report.survivors.begin(), report.survivors.end(),
                                   [&](const Mutation& survivor) { return each.is_like(survivor); });
    if (!lives) result.push_back(each.kernels + "|" + each.rest);
  }
  return result;
}

}  // namespace inferd::ptxsim
