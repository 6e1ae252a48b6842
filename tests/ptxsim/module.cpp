// Lookups in a parsed module, and the words of an opcode.
#include "tests/ptxsim/module.h"

#include <algorithm>

namespace inferd::ptxsim {

bool Opcode::has(std::string_view word) const { return std::find(words.begin(), words.end(), word) != words.end(); }

Type Opcode::type(int nth) const {
  for (auto word = words.rbegin(); word != words.rend(); ++word) {
    const Type type = parse_type(*word);
    if (type != Type::none && nth-- == 0) return type;
  }
  return Type::none;
}

std::string Kernel::describe(const Instruction& instruction) const {
  std::string where;
  const SourcePlace place = instruction.places.empty() ? SourcePlace{} : instruction.places.front();
  const auto file = files.find(place.file);
  if (file != files.end()) {
    const std::string& path = file->second;
    where = path.substr(path.rfind('/') + 1) + ":" + std::to_string(place.line) + " ";
  }
  return where + "(ptx line " + std::to_string(instruction.ptx_line) + ") `" + instruction.text + "`";
}

}  // namespace inferd::ptxsim
