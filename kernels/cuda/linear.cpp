// Linear layers: the parts of a weight one after another, and what stands before and behind them.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/linear_rows_params.h"
#include "kernels/cuda/linear_exact.h"
#include "kernels/cuda/linear_i8.h"
#include "kernels/cuda/linear_mma.h"
#include "kernels/cuda/linear_panels.h"

namespace inferd::cuda {
namespace {

/// Where a layer keeps what it needs beside its arguments, in the launcher's workspace.
struct Scratch {
  std::size_t ordered = 0;  // x in a part's order of columns
  std::size_t sums = 0;     // [T, rows] f32, of a gated weight whose halves are separate parts
  std::size_t out = 0;      // [T, columns] f32, where only an activation is asked for
  std::size_t bytes = 0;
};

Scratch plan_scratch(std::size_t tokens, std::int64_t in, bool reorders, std::int64_t sum_columns,
                     std::int64_t out_columns) {
  Scratch plan;
  const auto take = [&](std::size_t bytes) {
    const std::size_t at = plan.bytes;
    plan.bytes += aligned(bytes);
    return at;
  };
  std::size_t ordered_bytes = 0;
  activation_planes(nullptr, static_cast<std::int64_t>(tokens), in, kF16Form, &ordered_bytes);
  plan.ordered = take(reorders ? ordered_bytes : 0);
  plan.sums = take(tokens * static_cast<std::size_t>(sum_columns) * 4);
  plan.out = take(tokens * static_cast<std::size_t>(out_columns) * 4);
  return plan;
}

ActivationFunction function_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return ActivationFunction::none;
    case Epilogue::gelu_erf:
    case Epilogue::gelu_erf_gated:
      return ActivationFunction::gelu_erf;
    case Epilogue::gelu_tanh:
    case Epilogue::gelu_tanh_gated:
      return ActivationFunction::gelu_tanh;
    case Epilogue::silu_gated:
      return ActivationFunction::silu;
    case Epilogue::tanh:
      return ActivationFunction::tanh;
  }
  return ActivationFunction::none;
}

/// Epilogue of args that stores f32 rows at `out`.
EpilogueParams epilogue_of(const LinearArgs& args, std::int64_t rows, float* out, std::int64_t out_stride) {
  EpilogueParams params{};
  params.addend = args.addend.as<float>();
  params.addend_stride = args.addend.row_stride;
  params.bias = args.bias.as<float>();
  params.residual = args.residual.as<float>();
  params.residual_stride = args.residual.row_stride;
  params.out = out;
  params.out_stride = out_stride;
  params.function = function_of(args.epilogue);
  params.half = is_gated(args.epilogue) ? static_cast<std::int32_t>(rows / 2) : 0;
  return params;
}

ActivationPlanes reorder(Launcher& launcher, const CudaWeight::Part& part, const ActivationPlanes& x,
                         std::int64_t num_tokens, std::byte* at) {
  PermuteColumnsParams params{};
  params.x = x;
  params.out = activation_planes(at, num_tokens, x.stride, part.form);
  params.order = part.column_order;
  launcher.run(Kernel::linear_permute, {static_cast<unsigned>(num_tokens)}, params);
  return params.out;
}

/// Products of all parts. behind: workspace that nothing else is in.
void multiply(Launcher& launcher, const CudaWeight& weight, const ActivationPlanes& x, std::int64_t num_tokens,
              const EpilogueParams& epilogue, std::byte* ordered, std::byte* behind) {
  const auto room = static_cast<std::size_t>(launcher.workspace() + launcher.workspace_bytes() - behind);
  for (const CudaWeight::Part& part : weight.parts()) {
    if (part.form == kF32Form) {
      linear_exact(launcher, part, x.f32, x.stride, num_tokens, epilogue);
      continue;
    }
    if (part.form == kInt8Form) {
      linear_i8(launcher, part, x, num_tokens, epilogue);
      continue;
    }
    const ActivationPlanes own = part.column_order != nullptr ? reorder(launcher, part, x, num_tokens, ordered) : x;
    if (linear_panels(launcher, part, own, num_tokens, epilogue, behind, room)) continue;
    linear_mma(launcher, part, own, num_tokens, epilogue);
  }
}

}  // namespace

std::size_t linear_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns) {
  return plan_scratch(static_cast<std::size_t>(max_tokens), max_columns, true, 2 * max_columns, max_columns).bytes;
}

void linear(Launcher& launcher, const LinearArgs& args) {
  const std::int64_t num_tokens = args.num_tokens;
  if (num_tokens == 0) return;
  const auto& weight = static_cast<const CudaWeight&>(*args.weight);
  const std::span<const CudaWeight::Part> parts = weight.parts();
  const bool gated = is_gated(args.epilogue);
  const std::int64_t columns = gated ? weight.rows() / 2 : weight.rows();
  const bool late_gate = gated && !parts[0].interleaved;
  const bool reorders = std::any_of(parts.begin(), parts.end(), [](const CudaWeight::Part& part) {
    return part.form != kF32Form && part.column_order != nullptr;
  });
  const bool keeps_out = args.out.data == nullptr;
  const Scratch scratch = plan_scratch(static_cast<std::size_t>(num_tokens), weight.columns(), reorders,
                                       late_gate ? weight.rows() : 0, keeps_out ? columns : 0);
  INFERD_CHECK(scratch.bytes <= launcher.workspace_bytes());
  std::byte* workspace = launcher.workspace();

  const ActivationPlanes x = activation_planes(args.x.data, args.x.rows, args.x.columns, args.x.forms);
  float* out = keeps_out ? reinterpret_cast<float*>(workspace + scratch.out) : args.out.as<float>();
  const std::int64_t out_stride = keeps_out ? columns : args.out.row_stride;
  const EpilogueParams epilogue = epilogue_of(args, weight.rows(), out, out_stride);
  if (late_gate) {
    FinishGatedParams params{};
    EpilogueParams raw{};
    raw.out = reinterpret_cast<float*>(workspace + scratch.sums);
    raw.out_stride = weight.rows();
    multiply(launcher, weight, x, num_tokens, raw, workspace + scratch.ordered, workspace + scratch.bytes);
    params.sums = raw.out;
    params.epilogue = epilogue;
    launcher.run(Kernel::linear_finish_gated,
                 {static_cast<unsigned>(num_tokens), static_cast<unsigned>((columns + 255) / 256)}, params);
  } else {
    multiply(launcher, weight, x, num_tokens, epilogue, workspace + scratch.ordered, workspace + scratch.bytes);
  }
  if (args.out_activation) {
    ToActivationArgs activation;
    activation.x = Tensor(out, DType::f32, {num_tokens, columns});
    activation.x.row_stride = out_stride;
    activation.out = args.out_activation;
    to_activation(launcher, activation);
  }
}

}  // namespace inferd::cuda
