// Runs a few PTX instructions over a list of operands, one row a lane: how the instruction tests put their questions.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/ptxsim/launch.h"

namespace inferd::ptxsim::test {

struct Row {
  uint64_t a = 0, b = 0, c = 0;
};

/// The 64-bit result of `body` for every row. It finds a, b, c in %a %b %c (32 bits) and %A %B %C (64 bits) and leaves
/// its result in %d, or in %D if `wide`. Scratch: %r0..%r7 (.b32), %R0..%R3 (.b64), %h0..%h3 (.b16), %p, %q (.pred).
std::vector<uint64_t> evaluate_all(const std::string& body, const std::vector<Row>& rows, bool wide = false);

/// One row.
uint64_t evaluate(const std::string& body, Row row, bool wide = false);

/// A kernel `k` with this body, given 64-bit parameters %P0..%P3 and the scratch registers above, in a whole module.
/// `declarations` go to the module (shared arrays, globals).
std::string kernel_text(const std::string& body, const std::string& declarations = "");

/// Runs kernel_text() with one block of `threads`; %P0 is an output of `words` 32-bit words (0xffffffff at first).
std::vector<uint32_t> run_block(const std::string& body, unsigned threads, size_t words,
                                const std::string& declarations = "", const LaunchOptions& options = {});

/// The kind of Violation that `body` ends with; throws if it ends well.
Violation::Kind violation_of(const std::string& body, unsigned threads, const std::string& declarations = "",
                             const LaunchOptions& options = {});

inline uint32_t bits(float f) { return std::bit_cast<uint32_t>(f); }
inline uint64_t bits(double d) { return std::bit_cast<uint64_t>(d); }

}  // namespace inferd::ptxsim::test
