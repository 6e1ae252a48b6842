// Taking stored blocks of quantised types apart for packing: every 32 columns as codes, scales and minima.
#pragma once

#include <cstdint>

#include "kernels/cuda/weight_format.h"
#include "kernels/dtype.h"

namespace inferd::cuda {

/// 32 columns of one row, in the terms of the format they are packed into. What its scales lack is 0.
struct StoredCodes {
  std::uint8_t codes[32];    // as packed: unsigned; of table formats the index
  std::uint16_t d = 0;       // f16
  std::uint16_t d_min = 0;   // f16: m of dm, dmin of k and k16dm
  int scales[2] = {};        // integer factors of d, of 16 columns each, or the first of all 32
  int minima[2] = {};        // likewise of dmin
  float f32_scales[2] = {};  // of dz, dz64 and s
  std::uint8_t zero = 0;     // of dz and dz64
};

/// Whether the type has tables or digits of its own, which are widened into a format with f32 scales.
bool is_widened(DType dtype);

/// The 16 integers that codes of table formats stand for.
const std::int8_t* code_table(DType dtype);

inline constexpr int kMostParts = 8;  // of 32 columns in a block

/// All columns of a stored block of a quantised type, 32 a part.
void read_stored(DType dtype, const std::uint8_t* block, StoredCodes (&parts)[kMostParts]);

}  // namespace inferd::cuda
