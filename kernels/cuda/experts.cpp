// Mixtures of experts: which kernels, and their grids.
#include "kernels/cuda/experts.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/check.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/experts_params.h"
#include "kernels/cuda/linear_grid.h"
#include "kernels/cuda/linear_mma.h"
#include "kernels/cuda/mma_formats.h"

namespace inferd::cuda {
namespace {

static_assert(kMostExperts == kMaxExperts && kMostExpertsPerToken == kMaxExpertsPerToken);
static_assert(kExpertRowStep == kExpertRowAlign);

struct FormatKernels {
  WeightFormat format;
  Kernel narrow, wide;  // tiles 0 and 2
};

#define FORMAT(name) {WeightFormat::name, Kernel::experts_##name##_8, Kernel::experts_##name##_32},
constexpr FormatKernels kFormats[] = {INFERD_EXPERT_FORMATS(FORMAT)};
#undef FORMAT

/// Null if there are none for it.
const FormatKernels* kernels_of(const CudaWeight::Part& part) {
  if (part.form != kF16Form && part.form != kBf16Form) return nullptr;
  return row_of(kFormats, part.format);
}

bool is_alike(const CudaWeight& a, const CudaWeight& b) {
  if (a.parts().size() != 1 || b.parts().size() != 1 || a.columns() != b.columns()) return false;
  const CudaWeight::Part &x = a.parts()[0], &y = b.parts()[0];
  return x.format == y.format && x.form == y.form && x.interleaved == y.interleaved && x.rows == y.rows &&
         x.planes.row_tile_bytes == y.planes.row_tile_bytes && x.planes.k_tiles == y.planes.k_tiles &&
         x.planes.super_shift == y.planes.super_shift &&
         std::equal(std::begin(x.planes.table), std::end(x.planes.table), std::begin(y.planes.table));
}

std::int64_t picks_of(const ExpertPlan& plan) { return plan.experts.dim(0) * plan.experts.dim(1); }

/// Tiles that any choice of experts may need.
std::int64_t most_tiles(const ExpertPlan& plan) {
  const std::int64_t rows = linear_tile(expert_tile(plan), weight_layout(WeightFormat::f16)).tokens;
  return std::min(picks_of(plan), plan.starts.dim(0)) + picks_of(plan) / rows;
}

}  // namespace

std::unique_ptr<CudaExpertGroup> group_experts(std::span<const Weight* const> experts, WeightMemory& memory) {
  if (experts.empty()) return nullptr;
  std::vector<const std::byte*> data;
  const auto& first = static_cast<const CudaWeight&>(*experts[0]);
  for (const Weight* expert : experts) {
    const auto& weight = static_cast<const CudaWeight&>(*expert);
    const CudaWeight::Part& part = weight.parts()[0];
    const bool whole = part.interleaved || !weight.gated();
    if (!is_alike(first, weight) || !whole || part.column_order != nullptr || kernels_of(part) == nullptr) {
      return nullptr;
    }
    data.push_back(part.planes.data);
  }
  const std::size_t bytes = data.size() * sizeof data[0];
  std::unique_ptr<DeviceBuffer> buffer = memory.allocate(bytes);
  std::byte* staged = memory.stage(bytes);
  std::memcpy(staged, data.data(), bytes);
  memory.upload(buffer->data(), staged, bytes);
  return std::make_unique<CudaExpertGroup>(first, std::move(buffer));
}

int expert_tile(const ExpertPlan& plan) { return picks_of(plan) <= 8 * plan.starts.dim(0) ? 0 : 2; }

void route(Launcher& launcher, const RouteArgs& args) {
  const ExpertPlan& plan = args.plan;
  const std::int64_t tokens = plan.experts.dim(0), top_k = plan.experts.dim(1), experts = plan.starts.dim(0);
  INFERD_CHECK(args.logits.dim(0) == tokens && args.logits.dim(1) == experts && experts <= kMaxExperts);
  INFERD_CHECK(top_k <= std::min<std::int64_t>(experts, kMaxExpertsPerToken));
  INFERD_CHECK(plan.tokens.dim(0) == expert_rows(tokens, top_k, experts) && most_tiles(plan) <= plan.tiles.dim(0));
  if (tokens == 0) return;
  RouteTokensParams pick{};
  pick.logits = args.logits.as<float>();
  pick.logits_stride = args.logits.row_stride;
  pick.experts = plan.experts.as<std::int32_t>();
  pick.weights = plan.weights.as<float>();
  pick.num_tokens = static_cast<std::int32_t>(tokens);
  pick.num_experts = static_cast<std::int32_t>(experts);
  pick.top_k = static_cast<std::int32_t>(top_k);
  pick.normalize = args.normalize;
  launcher.run(Kernel::route_tokens, {static_cast<unsigned>((tokens + 3) / 4)}, pick);
  RouteRowsParams place{};
  place.experts = pick.experts;
  place.starts = plan.starts.as<std::int32_t>();
  place.counts = plan.counts.as<std::int32_t>();
  place.tokens = plan.tokens.as<std::int32_t>();
  place.places = plan.places.as<std::int32_t>();
  place.tiles = plan.tiles.as<ExpertTile>();
  place.picks = static_cast<std::int32_t>(picks_of(plan));
  place.top_k = pick.top_k;
  place.num_experts = pick.num_experts;
  place.rows = static_cast<std::int32_t>(plan.tokens.dim(0));
  place.num_tiles = static_cast<std::int32_t>(most_tiles(plan));
  place.tile_rows = linear_tile(expert_tile(plan), weight_layout(WeightFormat::f16)).tokens;
  launcher.run(Kernel::route_rows, {}, place);
}

void gather_activation(Launcher& launcher, const GatherActivationArgs& args) {
  const std::int64_t rows = args.rows.dim(0);
  INFERD_CHECK(args.x.columns == args.out.columns && (args.x.forms & args.out.forms) == args.out.forms);
  INFERD_CHECK(rows <= args.out.rows);
  if (rows == 0) return;
  GatherActivationParams params{};
  params.x = activation_planes(args.x.data, args.x.rows, args.x.columns, args.x.forms);
  params.out = activation_planes(args.out.data, args.out.rows, args.out.columns, args.out.forms);
  params.rows = args.rows.as<std::int32_t>();
  launcher.run(Kernel::gather_activation, {static_cast<unsigned>(rows)}, params);
}

void expert_linear(Launcher& launcher, const ExpertLinearArgs& args) {
  const auto& group = static_cast<const CudaExpertGroup&>(*args.group);
  const CudaWeight& weight = group.first();
  const CudaWeight::Part& part = weight.parts()[0];
  const std::int64_t rows = args.plan->tokens.dim(0);
  if (rows == 0) return;
  const std::int64_t columns = weight.gated() ? weight.rows() / 2 : weight.rows();
  const bool keeps_out = args.out.data == nullptr;
  INFERD_CHECK(!keeps_out || static_cast<std::size_t>(rows * columns) * 4 <= launcher.workspace_bytes());
  INFERD_CHECK(args.x.columns == weight.columns() && args.x.rows >= rows && weight.gated() == is_gated(args.epilogue));
  INFERD_CHECK(args.epilogue == Epilogue::none || args.epilogue == Epilogue::silu_gated);
  const ActivationPlanes x = activation_planes(args.x.data, args.x.rows, args.x.columns, args.x.forms);
  EpilogueParams epilogue{};
  epilogue.out = keeps_out ? reinterpret_cast<float*>(launcher.workspace()) : args.out.as<float>();
  epilogue.out_stride = keeps_out ? columns : args.out.row_stride;
  epilogue.half = weight.gated() ? static_cast<std::int32_t>(columns) : 0;
  ExpertMmaParams params{};
  params.linear = linear_mma_params(part, x, epilogue);
  params.data = group.data();
  params.tiles = args.plan->tiles.as<ExpertTile>();
  const WeightLayout layout = weight_layout(part.format);
  const int index = expert_tile(*args.plan);
  const LinearTile tile = linear_tile(index, layout);
  const FormatKernels& kernels = *kernels_of(part);
  Grid grid = linear_grid(tile, 1, part.row_tiles());
  grid.x = static_cast<unsigned>(most_tiles(*args.plan));
  launcher.run(index == 0 ? kernels.narrow : kernels.wide, grid, params,
               static_cast<unsigned>(tile.shared_bytes(layout.has_min)));
  if (!keeps_out) return;
  ToActivationArgs activation;
  activation.x = Tensor(epilogue.out, DType::f32, {rows, columns});
  activation.out = args.out_activation;
  to_activation(launcher, activation);
}

void combine_experts(Launcher& launcher, const CombineExpertsArgs& args) {
  const std::int64_t tokens = args.x.dim(0);
  if (tokens == 0) return;
  CombineExpertsParams params{};
  params.product = args.product.as<float>();
  params.product_stride = args.product.row_stride;
  params.places = args.plan->places.as<std::int32_t>();
  params.weights = args.plan->weights.as<float>();
  params.shared = args.shared.as<float>();
  params.shared_stride = args.shared.row_stride;
  params.gate = args.gate.as<float>();
  params.gate_stride = args.gate.row_stride;
  params.x = args.x.as<float>();
  params.x_stride = args.x.row_stride;
  params.columns = static_cast<std::int32_t>(args.x.dim(1));
  params.top_k = static_cast<std::int32_t>(args.plan->places.dim(1));
  launcher.run(Kernel::combine_experts, {static_cast<unsigned>(tokens)}, params);
}

}  // namespace inferd::cuda
