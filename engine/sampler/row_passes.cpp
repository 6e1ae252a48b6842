// The row passes of every instruction level that was compiled in.
#include "engine/sampler/row_passes.h"

#include "kernels/backend.h"

namespace inferd {

namespace portable {
extern const RowPasses kRowPasses;
}
#if INFERD_CPU_LEVEL_COUNT > 1
namespace avx2 {
extern const RowPasses kRowPasses;
}
namespace avx512vnni {
extern const RowPasses kRowPasses;
}
#endif

const RowPasses& row_passes() {
#if INFERD_CPU_LEVEL_COUNT > 1
  static const CpuLevel level = best_cpu_level();
  if (level >= CpuLevel::avx512vnni) return avx512vnni::kRowPasses;
  if (level >= CpuLevel::avx2) return avx2::kRowPasses;
#endif
  return portable::kRowPasses;
}

}  // namespace inferd
