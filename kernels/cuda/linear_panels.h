// Products through cuBLASLt: panels of packed weights, written as rows of 16-bit values, times many tokens.
#pragma once

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/launcher.h"

namespace inferd::cuda {

/// Queues row tiles [first, first + tiles) of a part that is not f32 as rows of 16-bit values, in its order of columns:
/// out: [16 tiles, 64 k_tiles], 16-byte aligned; bf16 of bf16 weights, of all others f16, rounded where they are wider.
/// An interleaved part's rows are those of its tiles: 8 gates, then their 8 ups.
void write_panel(Launcher& launcher, const CudaWeight::Part& part, std::int64_t first, std::int64_t tiles,
                 std::uint16_t* out);

/// Workspace that linear_panels wants behind that of `linear`, for products of at most so many tokens, columns and rows
/// (twice so many if gated).
std::size_t panel_workspace_bytes(const PanelLimits& limits, std::int64_t max_tokens, std::int64_t max_columns);

/// Multiplies by a part that reads the f16 or bf16 form; the columns of x are in the part's order. False, with nothing
/// queued, where own kernels are to do it: no cuBLASLt, too few tokens for it to pay, no way for this shape, or less
/// than `bytes` of workspace, 256-byte aligned.
bool linear_panels(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
                   const EpilogueParams& epilogue, std::byte* workspace, std::size_t bytes);

}  // namespace inferd::cuda
