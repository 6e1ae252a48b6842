// The row kernels of every instruction level that was compiled in.
#include "kernels/cpu/ops/level_table.h"

namespace inferd {

namespace portable {
extern const RowKernels kRowKernels;
}
#if INFERD_CPU_LEVEL_COUNT > 1
namespace avx2 {
extern const RowKernels kRowKernels;
}
namespace avxvnni {
extern const RowKernels kRowKernels;
}
namespace avx512vnni {
extern const RowKernels kRowKernels;
}
#endif

const RowKernels& row_kernels(CpuLevel level) {
#if INFERD_CPU_LEVEL_COUNT > 1
  switch (level) {
    case CpuLevel::portable:
      break;
    case CpuLevel::avx2:
      return avx2::kRowKernels;
    case CpuLevel::avxvnni:
      return avxvnni::kRowKernels;
    case CpuLevel::avx512vnni:
    case CpuLevel::amx:
      return avx512vnni::kRowKernels;
  }
#else
  static_cast<void>(level);
#endif
  return portable::kRowKernels;
}

}  // namespace inferd
