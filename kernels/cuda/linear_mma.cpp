// Products with packed weights on tensor cores: which kernel, and its grid.
#include "kernels/cuda/linear_mma.h"
#include "base/check.h"
#include "kernels/cuda/linear_grid.h"
#include "kernels/cuda/mma_formats.h"

namespace inferd::cuda {
namespace {

struct FormatKernels {
  WeightFormat format;
  Kernel kernels[kNumLinearTiles];
};

#define FORMAT(name)                                                                                               \
  {WeightFormat::name,                                                                                             \
   {Kernel::linear_##name##_8, Kernel::linear_##name##_16, Kernel::linear_##name##_32, Kernel::linear_##name##_64, \
    Kernel::linear_##name##_prefill}},
constexpr FormatKernels kFormats[] = {INFERD_MMA_FORMATS(FORMAT)};
#undef FORMAT

}  // namespace

int choose_linear_tile(const Launcher& launcher, WeightFormat format, std::int64_t num_tokens, std::int64_t row_tiles) {
  if (num_tokens <= 8) return 0;
  if (num_tokens <= 16) return 1;
  if (num_tokens <= 32) return 2;
  // The largest tile needs more shared memory than sm_75 has, and pays off if its blocks fill the chip.
  const Grid grid = linear_grid(linear_tile(4, weight_layout(format)), num_tokens, row_tiles);
  const bool fills = std::int64_t{grid.x} * grid.y >= launcher.multiprocessors();
  return launcher.arch() >= 80 && num_tokens > 64 && fills ? 4 : 3;
}

LinearMmaParams linear_mma_params(const CudaWeight::Part& part, const ActivationPlanes& x,
                                  const EpilogueParams& epilogue) {
  LinearMmaParams params{};
  params.weight = part.planes;
  params.x = part.form == kBf16Form ? x.bf16 : x.f16;
  params.x_scale = x.f16_scale;
  params.x_sums = x.f16_sums;
  params.x_stride = x.stride;
  params.rows = static_cast<std::int32_t>(part.rows);
  params.first_row = static_cast<std::int32_t>(part.first_row);
  params.row_tiles = static_cast<std::int32_t>(part.row_tiles());
  params.interleaved = part.interleaved;
  params.epilogue = epilogue;
  return params;
}

void linear_mma(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
                const EpilogueParams& epilogue, int tile_index) {
  const WeightLayout layout = weight_layout(part.format);
  LinearMmaParams params = linear_mma_params(part, x, epilogue);
  params.num_tokens = static_cast<std::int32_t>(num_tokens);
  const std::int64_t row_tiles = params.row_tiles;
  const int index = tile_index >= 0 ? tile_index : choose_linear_tile(launcher, part.format, num_tokens, row_tiles);
  const LinearTile tile = linear_tile(index, layout);
  const FormatKernels* found = row_of(kFormats, part.format);
  INFERD_CHECK(found != nullptr);
  launcher.run(found->kernels[index], linear_grid(tile, num_tokens, row_tiles), params,
               static_cast<unsigned>(tile.shared_bytes(layout.has_min)));
}

}  // namespace inferd::cuda
