// Mutation runs of the product's kernels.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/registry.h"

namespace inferd::cuda::test {

/// A kernel, and what its faults are held against.
struct Suspect {
  using Check = std::function<bool()>;  // of the kernel's results; a throw is a no
  Suspect(Kernel suspected, Check is_right) : kernel(suspected), checks{std::move(is_right)} {}
  Suspect(Kernel suspected, std::vector<Check> all) : kernel(suspected), checks(std::move(all)) {}

  Kernel kernel;
  std::vector<Check> checks;
};

/// INFERD_MUTANTS=PATTERN, a run by hand: every instance of a kernel that is named so ("*": all), every copy of an
/// unrolled loop, and the survivors that are listed too. Else tests ask about some.
bool all_mutants();

/// The architecture whose PTX gets the faults: the first built one with asynchronous copies, else the first.
int mutant_arch();

/// Puts faults into each kernel, wherever its checks, run once without one, and this process's other launches executed
/// something that can have one; one at a time. Asks whether the checks that execute it still answer true, the shortest
/// first. Empty if only those survive that survivors/NAME.txt lists, and with all_mutants() if those do; else a line
/// for each that is missing there or should not be, which is printed too. Faults in the source file `others` are not
/// asked about: other programs test it. On a GPU always empty.
std::string unlisted_mutants(const std::string& name, const std::vector<Suspect>& suspects,
                             const std::string& others = "");

/// Whether a fault is in some kernel just now.
bool fault_in_place();

/// What HOLDS throws.
struct Noticed : std::exception {};

/// REQUIRE, but with a fault in place a failure is no failure of the test.
#define HOLDS(...)                                             \
  do {                                                         \
    if (inferd::cuda::test::fault_in_place()) {                \
      if (!(__VA_ARGS__)) throw inferd::cuda::test::Noticed(); \
    } else {                                                   \
      REQUIRE(__VA_ARGS__);                                    \
    }                                                          \
  } while (false)

}  // namespace inferd::cuda::test
