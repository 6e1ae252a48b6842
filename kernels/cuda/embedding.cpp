// Look-up of embedding rows.
#include "base/check.h"
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dev/embedding_params.h"

namespace inferd::cuda {
namespace {

constexpr Kernel kEmbeddingKernels[kNumWeightFormats] = {INFERD_KERNEL_OF_EACH_FORMAT(embedding)};

}  // namespace

void embedding(Launcher& launcher, const EmbeddingArgs& args) {
  const std::int64_t tokens = args.ids.dim(0);
  if (tokens == 0) return;
  const auto& weight = static_cast<const CudaWeight&>(*args.weight);
  INFERD_CHECK(!weight.gated() && args.out.dim(1) == weight.columns());
  for (const CudaWeight::Part& part : weight.parts()) {
    EmbeddingParams params{};
    params.weight = part.planes;
    params.column_order = part.column_order;
    params.ids = args.ids.as<std::int32_t>();
    params.out = args.out.as<float>();
    params.out_stride = args.out.row_stride;
    params.columns = static_cast<std::int32_t>(weight.columns());
    params.first_row = static_cast<std::int32_t>(part.first_row);
    params.rows = static_cast<std::int32_t>(part.rows);
    params.accumulate = args.accumulate;
    params.pairs = part.column_order == nullptr && aligned_rows(args.out.data, args.out.row_stride, 2);
    launcher.run(kEmbeddingKernels[static_cast<int>(part.format)], {static_cast<unsigned>(tokens)}, params);
  }
}

}  // namespace inferd::cuda
