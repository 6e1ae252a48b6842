// Taking stored blocks of quantised types apart, 32 columns at a time.
#pragma once

#include <cstdint>

#include "kernels/cpu/linear/packed_format.h"

namespace inferd {

using Codes = std::uint8_t[kBlockColumns];

/// Codes of columns 32 * sub … of a stored block, as unsigned numbers before any offset (Q8_0: the signed byte).
void read_codes(DType dtype, const std::uint8_t* block, int sub, Codes codes);

/// Copies the scales of columns 32 * sub … of a stored block into the entry (and at sub 0 the header) of a lane.
void write_scales(DType dtype, const std::uint8_t* block, int sub, int lane, std::uint8_t* header, std::uint8_t* entry);

}  // namespace inferd
