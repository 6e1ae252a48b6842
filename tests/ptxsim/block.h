// Running one block: the order of its warps, barriers, deadlock.
#pragma once
#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {

/// Lets go all barriers whose threads have arrived; true if there was one.
bool release_complete_barriers(Block& block);
/// Runs the block `block.id` from its first instruction to its end.
void run_block(Block& block);

}  // namespace inferd::ptxsim
