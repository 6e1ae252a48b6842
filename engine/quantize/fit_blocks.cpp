// The block search of every instruction level that was compiled in.
#include "engine/quantize/fit_blocks.h"

#include "kernels/backend.h"

namespace inferd {

namespace portable {
extern const FitBlocks kFitBlocks;
}
#if INFERD_CPU_LEVEL_COUNT > 1
namespace avx2 {
extern const FitBlocks kFitBlocks;
}
namespace avx512vnni {
extern const FitBlocks kFitBlocks;
}
#endif

FitBlocks fit_blocks() {
#if INFERD_CPU_LEVEL_COUNT > 1
  static const CpuLevel level = best_cpu_level();
  if (level >= CpuLevel::avx512vnni) return avx512vnni::kFitBlocks;
  if (level >= CpuLevel::avx2) return avx2::kFitBlocks;
#endif
  return portable::kFitBlocks;
}

}  // namespace inferd
