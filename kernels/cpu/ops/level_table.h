// row_kernels(level): the row kernels compiled for an instruction level.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/ops/row_kernels.h"

namespace inferd {

/// `level` must be one this machine offers (best_cpu_level() or below).
const RowKernels& row_kernels(CpuLevel level);

}  // namespace inferd
