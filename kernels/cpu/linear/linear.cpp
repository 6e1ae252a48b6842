// The driver of linear layers: checks the arguments, cuts the work into tasks, and picks the level's kernels.
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/linear/activation.h"
#include "kernels/cpu/linear/cpu_weight.h"
#include "kernels/cpu/linear/linear_job.h"
#include "kernels/cpu/linear/pack.h"

namespace inferd {

namespace portable {
extern const LinearKernels kLinearKernels;
}
#if INFERD_CPU_LEVEL_COUNT > 1
namespace avx2 {
extern const LinearKernels kLinearKernels;
}
namespace avxvnni {
extern const LinearKernels kLinearKernels;
}
namespace avx512vnni {
extern const LinearKernels kLinearKernels;
extern const LinearKernels kAmxLinearKernels;
}  // namespace avx512vnni
#endif

const LinearKernels& linear_kernels(CpuLevel level) {
#if INFERD_CPU_LEVEL_COUNT > 1
  switch (level) {
    case CpuLevel::portable:
      break;
    case CpuLevel::avx2:
      return avx2::kLinearKernels;
    case CpuLevel::avxvnni:
      return avxvnni::kLinearKernels;
    case CpuLevel::avx512vnni:
      return avx512vnni::kLinearKernels;
    case CpuLevel::amx:
      return avx512vnni::kAmxLinearKernels;
  }
#else
  INFERD_CHECK(level == CpuLevel::portable);
#endif
  return portable::kLinearKernels;
}

namespace {

constexpr std::int64_t kTasksPerWorker = 6;
/// Activations of one pass over the weights should stay in a core's second-level cache, beside the weights that pass
/// through it: a third of it, of 1 MiB where Linux does not tell.
std::int64_t chunk_bytes() {
  static const std::int64_t bytes = [] {
    const long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return (cache > 0 ? std::clamp<std::int64_t>(cache, 256 << 10, 4 << 20) : 1 << 20) / 16 * 5;
  }();
  return bytes;
}
constexpr std::int64_t kMinChunkTokens = 32;

void check_rows(const Tensor& tensor, std::int64_t rows, std::int64_t columns) {
  INFERD_CHECK(tensor.dtype == DType::f32 && tensor.rank == 2 && tensor.dim(0) >= rows && tensor.dim(1) == columns);
  INFERD_CHECK(tensor.row_stride >= columns);
}

/// Writes the inputs that the weight's column orders call for into the context's scratch; views of them to `reordered`.
void reorder_inputs(CpuContext& context, const LinearArgs& args, const CpuWeight& weight, const ActivationView& x,
                    ActivationView* reordered) {
  const std::int64_t columns = weight.columns();
  const std::size_t bytes = activation_bytes(args.num_tokens, columns, weight.reordered_form());
  INFERD_CHECK(bytes * weight.column_orders().size() <= context.reorder_scratch_bytes);
  INFERD_CHECK(static_cast<std::size_t>(columns) <= context.worker_scratch_floats);
  const LinearKernels& kernels = linear_kernels(context.level);
  for (std::size_t i = 0; i < weight.column_orders().size(); ++i) {
    reordered[i] =
        view_activation({context.reorder_scratch + i * bytes, args.num_tokens, columns, weight.reordered_form()});
    const std::int32_t* order = weight.column_orders()[i].data();
    context.pool.run(args.num_tokens, [&, i, order](std::int64_t token, int worker) {
      const float* from = x.f32 + token * x.f32_stride;
      float* row = context.scratch(worker);
      for (std::int64_t k = 0; k < columns; ++k) row[k] = from[order[k]];
      kernels.store_row(reordered[i], token, row);
    });
  }
}

}  // namespace

LinearJob make_linear_job(const LinearArgs& args, const CpuWeight& weight) {
  LinearJob job{};
  const bool gated = is_gated(args.epilogue);
  INFERD_CHECK(gated == weight.gated());
  INFERD_CHECK(args.x && args.x.columns == weight.columns() && args.num_tokens <= args.x.rows);
  INFERD_CHECK((args.x.forms & weight.activation_forms()) == weight.activation_forms());
  job.pieces = weight.pieces();
  job.piece_starts = weight.piece_starts();
  job.up_tiles = weight.up_tiles();
  job.in_columns = weight.columns();
  job.out_columns = gated ? weight.rows() / 2 : weight.rows();
  job.exact = weight.exact();
  job.x = view_activation(args.x);
  job.epilogue = args.epilogue;
  job.decode_tile = &decode_tile;
  if (args.addend) {
    check_rows(args.addend, args.num_tokens, weight.rows());
    job.addend = args.addend.as<const float>();
    job.addend_stride = args.addend.row_stride;
  }
  if (args.bias) {
    INFERD_CHECK(args.bias.dtype == DType::f32 && args.bias.elements() == weight.rows());
    job.bias = args.bias.as<const float>();
  }
  if (args.residual) {
    check_rows(args.residual, args.num_tokens, job.out_columns);
    job.residual = args.residual.as<const float>();
    job.residual_stride = args.residual.row_stride;
  }
  if (args.out) {
    check_rows(args.out, args.num_tokens, job.out_columns);
    job.out = args.out.as<float>();
    job.out_stride = args.out.row_stride;
  }
  if (args.out_activation) {
    INFERD_CHECK(args.out_activation.columns == job.out_columns && args.out_activation.rows >= args.num_tokens);
    job.out_activation = view_activation(args.out_activation);
  }
  return job;
}

std::int64_t tokens_per_chunk(const LinearJob& job, std::int64_t tokens) {
  std::int64_t row_bytes_read = 0;
  if (job.x.blocks != nullptr) row_bytes_read += job.x.kblocks * static_cast<std::int64_t>(sizeof(ActivationBlock));
  if (job.x.f32 != nullptr) row_bytes_read += job.x.f32_stride * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t fitting = chunk_bytes() / std::max<std::int64_t>(row_bytes_read, 1) / kTokenChunk * kTokenChunk;
  const std::int64_t most = std::max(fitting, kMinChunkTokens);
  const std::int64_t chunks = (tokens + most - 1) / most;
  return ((tokens + chunks - 1) / chunks + kTokenChunk - 1) / kTokenChunk * kTokenChunk;
}

std::int64_t units_per_task(const CpuContext& context, std::int64_t units, std::int64_t passes) {
  const std::int64_t workers = context.pool.size();
  const std::int64_t wanted = std::max<std::int64_t>(1, workers * kTasksPerWorker / passes);
  return workers == 1 ? units : std::max<std::int64_t>(1, units / wanted);
}

void check_decode_scratch(const CpuContext& context, const CpuWeight& weight) {
  const std::size_t floats = weight.widens() ? static_cast<std::size_t>(weight.columns()) * kScratchFloats : 0;
  INFERD_CHECK(floats <= context.decode_scratch_floats);
}

void cpu_linear(CpuContext& context, const LinearArgs& args) {
  INFERD_CHECK(args.weight != nullptr && args.num_tokens >= 0);
  const auto* weight = dynamic_cast<const CpuWeight*>(args.weight);
  INFERD_CHECK(weight != nullptr);
  if (args.num_tokens == 0) return;
  LinearJob job = make_linear_job(args, *weight);
  ActivationView reordered[kMaxColumnOrders];
  if (!weight->column_orders().empty()) {
    reorder_inputs(context, args, *weight, job.x, reordered);
    job.reordered = reordered;
  }
  const LinearKernels& kernels = linear_kernels(context.level);
  const std::int64_t units = (job.out_columns + kUnitColumns - 1) / kUnitColumns;
  const std::int64_t chunk_tokens = tokens_per_chunk(job, args.num_tokens);
  const std::int64_t chunks = (args.num_tokens + chunk_tokens - 1) / chunk_tokens;
  const std::int64_t task_units = units_per_task(context, units, chunks);
  const std::int64_t tasks_per_chunk = (units + task_units - 1) / task_units;
  check_decode_scratch(context, *weight);
  context.pool.run(chunks * tasks_per_chunk, [&](std::int64_t task, int worker) {
    const std::int64_t unit = task % tasks_per_chunk * task_units;
    const std::int64_t token = task / tasks_per_chunk * chunk_tokens;
    kernels.run(job, unit, std::min(unit + task_units, units), token, std::min(token + chunk_tokens, args.num_tokens),
                context.decode_scratch_of(worker));
  });
}

void cpu_embedding(CpuContext& context, const EmbeddingArgs& args) {
  const auto* weight = dynamic_cast<const CpuWeight*>(args.weight);
  INFERD_CHECK(weight != nullptr && args.ids && args.ids.dtype == DType::i32);
  const std::int64_t tokens = args.ids.dim(0);
  const std::int64_t columns = weight->columns();
  check_rows(args.out, tokens, columns);
  INFERD_CHECK(!args.accumulate || static_cast<std::size_t>(columns) <= context.worker_scratch_floats);
  const auto* ids = args.ids.as<const std::int32_t>();
  context.pool.run(tokens, [&](std::int64_t token, int worker) {
    float* out = args.out.as<float>() + token * args.out.row_stride;
    if (!args.accumulate) return weight->decode_row(ids[token], out);
    float* row = context.scratch(worker);
    weight->decode_row(ids[token], row);
    for (std::int64_t k = 0; k < columns; ++k) out[k] += row[k];
  });
}

void store_activation_row(const CpuContext& context, const Activation& activation, std::int64_t row, const float* x) {
  INFERD_CHECK(row >= 0 && row < activation.rows);
  linear_kernels(context.level).store_row(view_activation(activation), row, x);
}

void cpu_to_activation(CpuContext& context, const ToActivationArgs& args) {
  const std::int64_t tokens = args.x.dim(0);
  check_rows(args.x, tokens, args.out.columns);
  INFERD_CHECK(args.out && args.out.rows >= tokens);
  context.pool.run(tokens, [&](std::int64_t token, int) {
    store_activation_row(context, args.out, token, args.x.as<const float>() + token * args.x.row_stride);
  });
}

}  // namespace inferd
