// Dividing a product into panels, and what becomes of their products.
#include "kernels/cuda/linear_panels.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/dev/panel_params.h"
#include "kernels/cuda/mma_formats.h"

namespace inferd::cuda {
namespace {

struct FormatKernel {
  WeightFormat format;
  Kernel kernel;
};

#define FORMAT(name) {WeightFormat::name, Kernel::panel_##name},
constexpr FormatKernel kPanelKernels[] = {INFERD_MMA_FORMATS(FORMAT)};
#undef FORMAT

std::int64_t blocks_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Where the workspace keeps what, and the row tiles of a panel.
struct Division {
  std::int64_t tiles = 0;
  std::size_t products = 0;  // [T, 16 tiles] f32; before it the panel, 16 bits
  std::size_t blas = 0;
  std::size_t bytes = 0;
};

/// As many row tiles in a panel as the limits allow, evenly. columns: padded.
Division divide(const PanelLimits& limits, std::int64_t row_tiles, std::int64_t columns, std::int64_t tokens) {
  const std::int64_t panel_tile = kRowTile * columns * 2, product_tile = kRowTile * tokens * 4;
  const std::int64_t most =
      std::max<std::int64_t>(1, std::min(limits.panel_bytes / panel_tile, limits.product_bytes / product_tile));
  Division out;
  out.tiles = blocks_of(row_tiles, blocks_of(row_tiles, most));
  out.products = aligned(static_cast<std::size_t>(out.tiles * panel_tile));
  out.blas = out.products + aligned(static_cast<std::size_t>(out.tiles * product_tile));
  out.bytes = out.blas + Blas::kWorkspaceBytes;
  return out;
}

bool is_aligned(const float* at, std::int64_t stride) {
  constexpr std::int64_t kFloats = Blas::kAlignment / sizeof(float);
  return reinterpret_cast<std::uintptr_t>(at) % Blas::kAlignment == 0 && stride % kFloats == 0;
}

/// One product, panel by panel.
class Panels {
 public:
  Panels(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
         const EpilogueParams& epilogue)
      : launcher_(launcher),
        blas_(*launcher.blas()),
        part_(part),
        x_(x),
        tokens_(num_tokens),
        epilogue_(epilogue),
        outputs_(part.interleaved ? part.rows / 2 : part.rows),
        row_tiles_(part.row_tiles()),
        division_(divide(launcher.panel_limits(), row_tiles_, x.stride, num_tokens)),
        direct_(takes_products()) {}

  std::size_t bytes() const { return division_.bytes; }

  /// Whether cuBLASLt computes all of it: panels differ in size by the last one at most.
  bool possible() {
    const std::int64_t last = (row_tiles_ - 1) / division_.tiles * division_.tiles;
    return blas_.plan(shape_of(0)) != nullptr && (last == 0 || blas_.plan(shape_of(last)) != nullptr);
  }

  void run(std::byte* workspace) {
    for (std::int64_t first = 0; first < row_tiles_; first += division_.tiles) run_panel(first, workspace);
  }

 private:
  std::int64_t tile_outputs() const { return part_.interleaved ? kRowTile / 2 : kRowTile; }
  std::int64_t tiles_from(std::int64_t first) const { return std::min(division_.tiles, row_tiles_ - first); }
  std::int64_t outputs_from(std::int64_t first) const {
    return std::min(tiles_from(first) * tile_outputs(), outputs_ - first * tile_outputs());
  }

  /// Whether outputs are the products themselves, or those plus the residual, and lie as cuBLASLt wants.
  bool takes_products() const {
    const EpilogueParams& e = epilogue_;
    if (part_.form != kBf16Form || part_.interleaved || e.function != ActivationFunction::none) return false;
    if (e.addend != nullptr || e.bias != nullptr) return false;
    if (e.residual == e.out && e.residual_stride != e.out_stride) return false;
    return is_aligned(e.out + part_.first_row, e.out_stride) &&
           (e.residual == nullptr || is_aligned(e.residual + part_.first_row, e.residual_stride));
  }

  BlasShape shape_of(std::int64_t first) const {
    BlasShape shape;
    shape.bf16 = part_.form == kBf16Form;
    shape.tokens = tokens_;
    shape.columns = x_.stride;
    shape.rows = direct_ ? outputs_from(first) : tiles_from(first) * kRowTile;
    shape.d_stride = direct_ ? epilogue_.out_stride : shape.rows;
    shape.adds = direct_ && epilogue_.residual != nullptr;
    if (shape.adds) shape.c_stride = epilogue_.residual_stride;
    return shape;
  }

  void run_panel(std::int64_t first, std::byte* workspace) {
    auto* panel = reinterpret_cast<std::uint16_t*>(workspace);
    write_panel(launcher_, part_, first, tiles_from(first), panel);
    const BlasShape shape = shape_of(first);
    const Blas::Plan* plan = blas_.plan(shape);
    INFERD_CHECK(plan != nullptr);
    const std::int64_t row = part_.first_row + first * tile_outputs();
    auto* products = reinterpret_cast<float*>(workspace + division_.products);
    blas_.multiply(*plan, panel, part_.form == kBf16Form ? x_.bf16 : x_.f16,
                   shape.adds ? epilogue_.residual + row : nullptr, direct_ ? epilogue_.out + row : products,
                   workspace + division_.blas);
    if (direct_) return;
    PanelFinishParams finish{};
    finish.products = products;
    finish.x_scale = part_.form == kBf16Form ? nullptr : x_.f16_scale;
    finish.stride = shape.rows;
    finish.first = static_cast<std::int32_t>(row);
    finish.outputs = static_cast<std::int32_t>(outputs_from(first));
    finish.interleaved = part_.interleaved;
    finish.epilogue = epilogue_;
    launcher_.run(Kernel::panel_finish,
                  {static_cast<unsigned>(tokens_), static_cast<unsigned>(blocks_of(finish.outputs, kPanelThreads))},
                  finish);
  }

  Launcher& launcher_;
  Blas& blas_;
  const CudaWeight::Part& part_;
  const ActivationPlanes& x_;
  const std::int64_t tokens_;
  const EpilogueParams& epilogue_;
  const std::int64_t outputs_;
  const std::int64_t row_tiles_;
  const Division division_;
  const bool direct_;
};

}  // namespace

void write_panel(Launcher& launcher, const CudaWeight::Part& part, std::int64_t first, std::int64_t tiles,
                 std::uint16_t* out) {
  PanelParams params{};
  params.weight = part.planes;
  params.weight.data += first * part.planes.row_tile_bytes;
  params.out = out;
  const FormatKernel* panel = row_of(kPanelKernels, part.format);
  INFERD_CHECK(panel != nullptr);
  launcher.run(panel->kernel,
               {static_cast<unsigned>(blocks_of(params.weight.k_tiles, kPanelTiles)), static_cast<unsigned>(tiles)},
               params);
}

std::size_t panel_workspace_bytes(const PanelLimits& limits, std::int64_t max_tokens, std::int64_t max_columns) {
  if (max_tokens < std::min(limits.dense_tokens, limits.quantized_tokens) || max_columns == 0) return 0;
  // Of all products the one with the most of everything has the largest panel, but for the rows that are left over.
  const std::int64_t columns = padded_columns(max_columns);
  const std::int64_t row_tiles = blocks_of(2 * columns, kRowTile);
  const std::int64_t panel_tile = kRowTile * columns * 2, product_tile = kRowTile * max_tokens * 4;
  const auto most = [&](std::int64_t limit, std::int64_t tile) {
    return aligned(static_cast<std::size_t>(std::max(tile, std::min(limit, row_tiles * tile))));
  };
  return most(limits.panel_bytes, panel_tile) + most(limits.product_bytes, product_tile) + Blas::kWorkspaceBytes;
}

bool linear_panels(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x, std::int64_t num_tokens,
                   const EpilogueParams& epilogue, std::byte* workspace, std::size_t bytes) {
  if (launcher.blas() == nullptr || row_of(kPanelKernels, part.format) == nullptr) return false;
  const PanelLimits& limits = launcher.panel_limits();
  const bool dense = part.format == WeightFormat::f16 || part.format == WeightFormat::bf16;
  if (num_tokens < (dense ? limits.dense_tokens : limits.quantized_tokens)) return false;
  INFERD_CHECK(x.stride == std::int64_t{part.planes.k_tiles} * kColumnTile);
  Panels panels(launcher, part, x, num_tokens, epilogue);
  if (panels.bytes() > bytes || !panels.possible()) return false;
  panels.run(workspace);
  return true;
}

}  // namespace inferd::cuda
