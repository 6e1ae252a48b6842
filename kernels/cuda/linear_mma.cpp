// Products with packed weights on tensor cores: which kernel, and its grid.
#include "kernels/cuda/linear_mma.h"
#include "base/check.h"
#include "kernels/cuda/linear_grid.h"

namespace inferd::cuda {
namespace {

struct FormatKernels {
  WeightFormat format;
  Kernel kernels[kNumLinearTiles];
};

#define FORMAT(name)                                                                                                 \
  {                                                                                                                  \
    WeightFormat::name, {                                                                                            \
      Kernel::linear_##name##_8, Kernel::linear_##name##_16, Kernel::linear_##name##_32, Kernel::linear_##name##_64, \
          Kernel::linear_##name##_prefill                                                                            \
    }                                                                                                                \
  }
constexpr FormatKernels kFormats[] = {FORMAT(f16),   FORMAT(bf16),  FORMAT(q8_0),   FORMAT(q4_0),   FORMAT(q4_1),
                                      FORMAT(q5_0),  FORMAT(q5_1),  FORMAT(q2_k),   FORMAT(q3_k),   FORMAT(q4_k),
                                      FORMAT(q5_k),  FORMAT(q6_k),  FORMAT(iq4_nl), FORMAT(iq4_xs), FORMAT(g2_32),
                                      FORMAT(g2_64), FORMAT(g3_32), FORMAT(g3_64),  FORMAT(g4_32),  FORMAT(g4_64),
                                      FORMAT(g8_32), FORMAT(g8_64), FORMAT(t4_16),  FORMAT(t4_32),  FORMAT(h4_64)};
#undef FORMAT

Kernel kernel_of(WeightFormat format, int tile) {
  for (const FormatKernels& row : kFormats) {
    if (row.format == format) return row.kernels[tile];
  }
  INFERD_CHECK(false);
  return {};
}

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
  launcher.run(kernel_of(part.format, index), linear_grid(tile, num_tokens, row_tiles), params,
               static_cast<unsigned>(tile.shared_bytes(layout.has_min)));
}

}  // namespace inferd::cuda
