// Where the forms of an Activation lie in its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/linear/linear_kernels.h"
#include "kernels/ops.h"

namespace inferd {

/// Bytes of an Activation of this capacity: the f32 form, if any, then the int8 form, each 64-byte aligned.
/// Throws MemoryError if the count does not fit.
std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms);

/// `activation` taken apart; forms it lacks are null. An absent one gives a view without any form.
ActivationView view_activation(const Activation& activation);

/// Row `row` as the linear kernels see it, widened: scale * quant, or the f32 form where there is no other. For tests.
std::vector<float> read_activation_row(const Activation& activation, std::int64_t row);

}  // namespace inferd
