// Mutation runs of the product's kernels.
#pragma once

#include <functional>
#include <string>

#include "kernels/cuda/registry.h"

namespace inferd::cuda::test {

/// Puts every fault into the kernel that the launches of this process so far gave a place for, one at a time, and asks
/// whether `is_right` still answers true. Empty if survivors/NAME.txt lists exactly the survivors of the first
/// architecture; else a line for each that is missing there or should not be.
/// Faults in the source file `others` are not asked about: other programs test it.
std::string unlisted_mutants(Kernel kernel, const std::string& name, const std::function<bool()>& is_right,
                             const std::string& others = "");

}  // namespace inferd::cuda::test
