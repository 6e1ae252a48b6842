// Parameters of the kernels of panel.cu.
#pragma once

#include "kernels/cuda/dev/epilogue_params.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

inline constexpr int kPanelThreads = 256;
inline constexpr int kPanelTiles = kPanelThreads / 32;  // of a block, side by side

/// Row tiles as rows of 16-bit values, row 16 t + r being tile row r of row tile t; grid: k tiles / kPanelTiles, row
/// tiles.
struct PanelParams {
  WeightPlanes weight;  // from the first row tile on
  std::uint16_t* out;   // [16 row tiles, 64 k_tiles], 16-byte aligned; bf16 of bf16 weights, else f16
};

/// Products of a panel into outputs; grid: T, outputs / kPanelThreads.
struct PanelFinishParams {
  const float* products;  // [T, stride], a column a row of the panel
  const float* x_scale;   // [T] or null
  std::int64_t stride;
  std::int32_t first;    // the product's row of output 0
  std::int32_t outputs;  // of an interleaved panel: gates, with their ups
  bool interleaved;
  EpilogueParams epilogue;
};

}  // namespace inferd::cuda
