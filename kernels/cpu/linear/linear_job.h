// How one linear layer call becomes tasks for the kernels of a level.
#pragma once

#include <cstdint>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/linear/cpu_weight.h"
#include "kernels/cpu/linear/linear_kernels.h"

namespace inferd {

/// Checks the arguments against each other and the weight, and takes them apart. Of a weight with column orders the
/// caller adds LinearJob::reordered.
LinearJob make_linear_job(const LinearArgs& args, const CpuWeight& weight);

/// Tokens per pass over the weights, a multiple of kTokenChunk; the same for all passes, or nearly.
std::int64_t tokens_per_chunk(const LinearJob& job, std::int64_t tokens);

/// Units of kUnitColumns columns that make a task, for `units` of them and as many passes.
std::int64_t units_per_task(const CpuContext& context, std::int64_t units, std::int64_t passes);

/// Scratch for widening the weight's tiles is there, if it needs any.
void check_decode_scratch(const CpuContext& context, const CpuWeight& weight);

}  // namespace inferd
