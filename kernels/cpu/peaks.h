// What this machine's processor can do at most, measured: the yardsticks that speeds of kernels are read against.
#pragma once

#include "kernels/backend.h"

namespace inferd {

/// Each measurement runs on `threads` threads of its own (≥ 1) for about a quarter of a second, takes the fastest of
/// its passes, and returns 0 for a level beyond this machine's. Blocks; allocates; nothing else should run meanwhile.

/// Bytes per second read from memory: one pass over 256 MiB, or less where memory is short, each thread its own part.
/// Throws MemoryError where there is no memory for it.
double measure_read_bandwidth(int threads);

/// Operations (a multiplication or an addition each count as one) per second of 8-bit integer dot products whose
/// operands are in registers, by the instructions the level's linear layers use.
double measure_int8_ops(CpuLevel level, int threads);

/// The same of f32 multiply-adds.
double measure_f32_flops(CpuLevel level, int threads);

}  // namespace inferd
