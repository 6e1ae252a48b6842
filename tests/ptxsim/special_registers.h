// The %special registers a kernel can read.
#pragma once
#include <string>

#include "tests/ptxsim/block.h"

namespace inferd::ptxsim {

/// The value of a special register in one thread of a block.
using SpecialValue = uint32_t (*)(const Block& block, unsigned thread);

/// Null if the interpreter does not know a register of this name ("%tid.x").
SpecialValue find_special_register(const std::string& name);

}  // namespace inferd::ptxsim
