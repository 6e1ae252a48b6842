// What a template may use at most; beyond it a render ends with TemplateError, a parse with CheckpointError.
#pragma once

#include <cstddef>
#include <cstdint>

namespace inferd::jinja {

inline constexpr std::size_t kMaxTemplateBytes = 1u << 20;
inline constexpr std::size_t kMaxTokens = 100'000;    // of a template; the largest published one has about 6,000
inline constexpr int kMaxNesting = 64;                // parentheses, brackets and blocks inside one another
inline constexpr int kMaxTreeHeight = 400;            // of an expression: chains like a + b + c …
inline constexpr std::int64_t kMaxSteps = 1'000'000;  // fuel
inline constexpr std::int64_t kMaxRenderMs = 250;     // of this thread's CPU time
inline constexpr std::size_t kMaxOutputBytes = 8u << 20;
inline constexpr std::size_t kMaxTextBytes = 16u << 20;  // of any one string
inline constexpr std::size_t kMaxLiveBytes = 24u << 20;  // of everything that a template holds at one time
inline constexpr int kMaxMacroDepth = 64;
inline constexpr int kMaxEvalDepth = 1000;  // C++ recursion of the evaluator
inline constexpr int kMaxValueDepth = 100;  // of containers inside containers, when printed or compared
inline constexpr std::int64_t kMaxRange = 100'000;

}  // namespace inferd::jinja
