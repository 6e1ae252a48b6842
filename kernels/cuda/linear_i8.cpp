// Products with int8 weights and int8 activations: which kernel, and its grid.
#include "kernels/cuda/linear_i8.h"

#include <limits>

#include "base/check.h"
#include "kernels/cuda/dev/linear_i8_params.h"
#include "kernels/cuda/linear_grid.h"

namespace inferd::cuda {
namespace {

constexpr Kernel kI8Kernels[kNumLinearI8Tiles] = {Kernel::linear_i8_8, Kernel::linear_i8_16, Kernel::linear_i8_32,
                                                  Kernel::linear_i8_64, Kernel::linear_i8_prefill};

int choose_tile(const Launcher& launcher, std::int64_t num_tokens, std::int64_t row_tiles) {
  for (int tile = 0; tile < 3; ++tile) {
    if (num_tokens <= linear_i8_tile(tile).tokens) return tile;
  }
  // The largest tile pays off if its blocks fill the chip.
  const Grid grid = linear_grid(linear_i8_tile(4), num_tokens, row_tiles);
  return num_tokens > 64 && std::int64_t{grid.x} * grid.y >= launcher.multiprocessors() ? 4 : 3;
}

}  // namespace

void linear_i8(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
               const EpilogueParams& epilogue, int tile_index) {
  INFERD_CHECK(part.format == WeightFormat::i8 && part.column_order == nullptr);
  INFERD_CHECK(x.stride == std::int64_t{part.planes.k_tiles} * kColumnTile && x.stride <= kMostI8Columns);
  INFERD_CHECK(num_tokens * x.stride <= std::numeric_limits<std::uint32_t>::max());
  LinearI8Params params{};
  params.weight = part.planes;
  params.x = x.int8;
  params.x_scale = x.int8_scale;
  params.x_stride = x.stride;
  params.num_tokens = static_cast<std::int32_t>(num_tokens);
  params.rows = static_cast<std::int32_t>(part.rows);
  params.first_row = static_cast<std::int32_t>(part.first_row);
  const std::int64_t row_tiles = part.row_tiles();
  params.row_tiles = static_cast<std::int32_t>(row_tiles);
  params.interleaved = part.interleaved;
  params.epilogue = epilogue;
  const int index = tile_index >= 0 ? tile_index : choose_tile(launcher, num_tokens, row_tiles);
  const LinearI8Tile tile = linear_i8_tile(index);
  launcher.run(kI8Kernels[index], linear_grid(tile, num_tokens, row_tiles), params,
               static_cast<unsigned>(tile.shared_bytes()));
}

}  // namespace inferd::cuda
