// Taking stored blocks of quantised types apart, 32 columns at a time.
#pragma once

#include <cstdint>

#include "kernels/cpu/linear/packed_format.h"

namespace inferd {

using Codes = std::uint8_t[kBlockColumns];

/// Codes of columns 32 * sub … of a stored block, as unsigned numbers before any offset (Q8_0: the signed byte).
void read_codes(DType dtype, const std::uint8_t* block, int sub, Codes codes);

/// Copies the scales of columns 32 * sub … of a stored block into the entry (and at sub 0 the header) of a lane.
/// Bits are added to the u32s of ScaleScheme::k, which are 0 before.
void write_scales(DType dtype, const std::uint8_t* block, int sub, int lane, std::uint8_t* header, std::uint8_t* entry);

/// Scale and minimum of a lane in ScaleScheme::k; sub: the entry's place in its group.
struct SixBits {
  int scale;
  int minimum;
};
SixBits read_six_bits(const std::uint8_t* header, const std::uint8_t* entry, int sub, int lane);

}  // namespace inferd
