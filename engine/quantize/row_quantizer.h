// Quantising rows of weights into the blocks that lose least.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace inferd {

/// Largest magnitude of a weight that quantize_row can represent: f16's.
inline constexpr float kMostQuantizable = 65504.0f;

/// Types that quantize_row writes: Q8_0 (a scale for 32 weights, the largest becomes ±127) and Q4_1 (step and low for
/// 32 weights, searched for the least squared error).
constexpr bool is_quantizable_to(DType dtype) { return dtype == DType::q8_0 || dtype == DType::q4_1; }

/// Writes `columns` weights (a multiple of 32) as blocks of `dtype`. False, with `out` undefined, if one is not finite
/// or beyond kMostQuantizable.
bool quantize_row(DType dtype, const float* row, std::int64_t columns, std::byte* out);

}  // namespace inferd
