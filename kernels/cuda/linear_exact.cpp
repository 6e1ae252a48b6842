// Launches of the exact linear kernels.
#include "kernels/cuda/linear_exact.h"

#include "base/check.h"
#include "kernels/cuda/dev/linear_exact_params.h"

namespace inferd::cuda {
namespace {

constexpr Kernel kExactKernels[kNumWeightFormats] = {INFERD_KERNEL_OF_EACH_FORMAT(linear_exact)};

}  // namespace

void linear_exact(Launcher& launcher, const CudaWeight::Part& part, const float* x, std::int64_t x_stride,
                  std::int64_t num_tokens, const EpilogueParams& epilogue) {
  if (num_tokens == 0) return;
  INFERD_CHECK(x_stride == std::int64_t{part.planes.k_tiles} * kColumnTile);
  INFERD_CHECK(part.interleaved == (epilogue.half > 0));
  LinearExactParams params{};
  params.weight = part.planes;
  params.column_order = part.column_order;
  params.x = x;
  params.x_stride = x_stride;
  params.num_tokens = static_cast<std::int32_t>(num_tokens);
  params.token_tiles = static_cast<std::int32_t>((num_tokens + kExactTokens - 1) / kExactTokens);
  params.rows = static_cast<std::int32_t>(part.rows);
  params.first_row = static_cast<std::int32_t>(part.first_row);
  params.interleaved = part.interleaved;
  params.epilogue = epilogue;
  const std::int64_t tile_rows = part.interleaved ? kRowTile / 2 : kRowTile;
  const std::int64_t rows = part.interleaved ? part.rows / 2 : part.rows;
  const auto blocks = static_cast<unsigned>((rows + tile_rows - 1) / tile_rows * params.token_tiles);
  launcher.run(kExactKernels[static_cast<int>(part.format)], {blocks}, params);
}

}  // namespace inferd::cuda
