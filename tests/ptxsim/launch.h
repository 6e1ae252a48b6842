// Runs a kernel of a parsed module over a grid, one warp instruction at a time.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "tests/ptxsim/memory.h"
#include "tests/ptxsim/module.h"
#include "tests/ptxsim/profile.h"

namespace inferd::ptxsim {

enum class CopyTiming { early, late };  // cp.async: when issued, or only when waited for

struct LaunchOptions {
  CopyTiming cp_async = CopyTiming::late;
  int warp_order = 0;              // 0: ascending, 1: descending, 2: shuffled and switched after a few instructions
  bool descending_blocks = false;  // the last block first
  bool checked = true;  // shared memory: uninitialised reads, races, early use of copies (bounds are always checked)
  Profile* profile = nullptr;                   // counts into it if set
  uint64_t max_warp_instructions = 1ull << 34;  // more in one launch is Violation::endless
};

struct LaunchStatistics {
  uint64_t warp_instructions = 0;
};

/// Runs `kernel` to its end. `parameters` is the parameter buffer, laid out as Kernel::parameters says.
/// Blocks run one after the other. Throws Violation.
LaunchStatistics launch(Module& module, const std::string& kernel, Dim3 grid, Dim3 block, size_t dynamic_shared_bytes,
                        std::span<const uint8_t> parameters, Memory& memory, const LaunchOptions& options = {});

/// A parameter buffer of these values, each at its natural alignment.
template <class... Args>
std::vector<uint8_t> pack_parameters(const Args&... args) {
  std::vector<uint8_t> buffer;
  const auto add = [&buffer](const auto& value) {
    using T = std::decay_t<decltype(value)>;
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t at = (buffer.size() + alignof(T) - 1) / alignof(T) * alignof(T);
    buffer.resize(at + sizeof(T));
    std::memcpy(buffer.data() + at, &value, sizeof(T));
  };
  (add(args), ...);
  return buffer;
}

}  // namespace inferd::ptxsim
