// FitBlocks: the search for the step and offset of 4-bit blocks, compiled for each instruction level with the same bits
// as its result.
#pragma once

namespace inferd {

inline constexpr int kFitLanes = 16;     // blocks fitted together
inline constexpr int kFitElements = 32;  // weights of a block
inline constexpr float kFitTop = 15.0f;  // the largest code

/// Finds, for 16 blocks at a time, step and low so that step * code + low with codes 0 … 15 lies near the weights, in
/// the sense of least squares. x [kFitElements][kFitLanes], finite; step ≥ 0 and low [kFitLanes]. A block of equal
/// weights gets step 0.
using FitBlocks = void (*)(const float* x, float* step, float* low);

/// The function for this machine.
FitBlocks fit_blocks();

}  // namespace inferd
