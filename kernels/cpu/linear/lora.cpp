// Adapters on the CPU: shrink (A x, a row at a time), then expand (B of that, in stretches of columns).
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/linear/activation.h"
#include "kernels/cpu/linear/cpu_low_rank.h"
#include "kernels/cpu/ops/for_rows.h"
#include "kernels/cpu/ops/level_table.h"

namespace inferd {

CpuLowRank::CpuLowRank(std::span<const LowRankSource> parts, std::int64_t rows, std::int64_t columns)
    : rows_(rows), columns_(columns) {
  std::int64_t floats = 0;
  for (const LowRankSource& part : parts) {
    INFERD_CHECK(part.rank > 0 && part.rows > 0 && part.first_row >= 0 && part.first_row + part.rows <= rows);
    floats += part.rank * (columns + part.rows);
    rank_ += part.rank;
  }
  memory_ = CpuMemory(static_cast<std::size_t>(floats) * sizeof(float));
  float* at = reinterpret_cast<float*>(memory_.data());
  a_ = at;
  for (const LowRankSource& part : parts) at = std::copy_n(part.a, part.rank * columns, at);
  std::int64_t first_rank = 0;
  for (const LowRankSource& part : parts) {
    parts_.push_back({at, first_rank, part.rank, part.first_row, part.rows});
    for (std::int64_t r = 0; r < part.rank; ++r) {
      for (std::int64_t row = 0; row < part.rows; ++row) *at++ = part.b[row * part.rank + r];
    }
    first_rank += part.rank;
  }
}

namespace {

constexpr std::int64_t kStretch = 1024;  // output columns of one task

/// The update of a row's adapter, or null.
const CpuLowRank* update_of(const LoraArgs& args, std::int64_t row) {
  const std::int32_t adapter = args.adapters.as<const std::int32_t>()[row];
  if (adapter < 0) return nullptr;
  INFERD_CHECK(adapter < args.num_updates);
  return static_cast<const CpuLowRank*>(args.updates[adapter]);
}

/// Row `row` of an activation as f32; in `scratch` unless the activation has that form.
const float* input_row(const ActivationView& x, std::int64_t row, float* scratch) {
  if (x.f32 != nullptr) return x.f32 + row * x.f32_stride;
  const std::int64_t group = row / kActivationGroup * x.kblocks;
  for (std::int64_t k = 0; k < x.columns; k += kBlockColumnsOfActivation) {
    const ActivationBlock& block =
        x.blocks[(group + k / kBlockColumnsOfActivation) * kActivationGroup + row % kActivationGroup];
    const std::int64_t count = std::min<std::int64_t>(kBlockColumnsOfActivation, x.columns - k);
    for (std::int64_t i = 0; i < count; ++i) scratch[k + i] = block.scale * static_cast<float>(block.quants[i]);
  }
  return scratch;
}

/// Columns [begin, end) of one row's result.
void expand_stretch(const RowKernels& kernels, const CpuLowRank& update, const float* shrunk, std::int64_t begin,
                    std::int64_t end, float* out) {
  std::fill(out + begin, out + end, -0.0f);
  float sums[kStretch];
  for (const CpuLowRank::Part& part : update.parts()) {
    const std::int64_t first = std::max(begin, part.first_row);
    const std::int64_t last = std::min(end, part.first_row + part.rows);
    if (first >= last) continue;
    kernels.expand(shrunk + part.first_rank, part.b + (first - part.first_row), part.rows, part.rank, last - first,
                   sums);
    for (std::int64_t i = first; i < last; ++i) out[i] += sums[i - first];
  }
}

}  // namespace

void cpu_lora(CpuContext& context, const LoraArgs& args) {
  const RowKernels& kernels = row_kernels(context.level);
  const std::int64_t rows = args.out.dim(1);
  const ActivationView x = view_activation(args.x);
  INFERD_CHECK(args.num_tokens <= args.x.rows && args.num_tokens <= args.out.dim(0));
  INFERD_CHECK(static_cast<std::size_t>(x.columns) <= context.worker_scratch_floats);
  for_rows(context.pool, args.num_tokens, [&](std::int64_t row, int worker) {
    const CpuLowRank* update = update_of(args, row);
    if (update == nullptr) return;
    INFERD_CHECK(update->rows() == rows && update->columns() == x.columns && update->rank() <= args.shrunk.dim(1));
    kernels.shrink(input_row(x, row, context.scratch(worker)), update->a(), x.columns, update->rank(),
                   args.shrunk.as<float>() + row * args.shrunk.row_stride);
  });
  const std::int64_t stretches = (rows + kStretch - 1) / kStretch;
  for_rows(context.pool, args.num_tokens * stretches, [&](std::int64_t task, int) {
    const std::int64_t row = task / stretches;
    const std::int64_t begin = task % stretches * kStretch;
    const std::int64_t end = std::min(begin + kStretch, rows);
    float* out = args.out.as<float>() + row * args.out.row_stride;
    if (const CpuLowRank* update = update_of(args, row)) {
      expand_stretch(kernels, *update, args.shrunk.as<const float>() + row * args.shrunk.row_stride, begin, end, out);
    } else {
      std::fill(out + begin, out + end, -0.0f);
    }
  });
}

}  // namespace inferd
