// Attention over the paged cache: which kernel, which sequences go by spans, and where partials lie.
#include <iterator>

#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/cuda_ops.h"

namespace inferd::cuda {
namespace {

// Rows of (token, head) pairs up to which a sequence goes by spans: a tensor-core tile.
constexpr int kSplitRows = 16;

std::size_t partial_bytes(std::int64_t rows, std::int64_t spans, int num_heads, int head_dim) {
  const auto count = static_cast<std::size_t>(rows * spans * num_heads);
  return aligned(count * 2 * sizeof(float)) + count * static_cast<std::size_t>(head_dim) * sizeof(float);
}

int span_count(std::int64_t max_context_len) { return static_cast<int>((max_context_len + kSpanKeys - 1) / kSpanKeys); }

/// The most queries of a sequence that goes by spans: as the workspace allows. Bits do not depend on it.
int choose_split_queries(const AttentionArgs& args, int spans, std::size_t available) {
  const BatchTensors& batch = *args.batch;
  const int group = args.num_heads / args.num_kv_heads;
  const bool all_longest = batch.num_tokens == batch.num_sequences * batch.max_query_len;
  if (all_longest && batch.max_query_len > std::max(1, kSplitRows / group)) return 0;
  int queries = std::min(batch.max_query_len, std::max(1, kSplitRows / group));
  while (queries > 0 && (partial_bytes(std::int64_t{batch.num_sequences} * queries, spans, args.num_heads,
                                       args.head_dim) > available ||
                         batch.num_sequences * queries > kMaxGrid)) {
    --queries;
  }
  return queries;
}

void set_scores(AttentionParams& params, float scale, float softcap) {
  params.score_scale = softcap > 0.0f ? 2.0f * kLog2E * scale / softcap : scale * kLog2E;
  params.cap = softcap > 0.0f ? softcap * kLog2E : 0.0f;
}

AttentionParams cached_params(const AttentionArgs& args) {
  const BatchTensors& batch = *args.batch;
  AttentionParams params{};
  params.q = args.qkv.as<const float>();
  params.q_stride = args.qkv.row_stride;
  params.keys = args.kv.keys.data;
  params.values = args.kv.values.data;
  params.query_starts = batch.query_starts.as<const std::int32_t>();
  params.context_lens = batch.context_lens.as<const std::int32_t>();
  params.block_tables = batch.block_tables.as<const std::int32_t>();
  params.prefix_lens = batch.prefix_lens.as<const std::int32_t>();
  params.table_stride = batch.block_tables.row_stride;
  params.alibi_slopes = args.alibi_slopes.as<const float>();
  params.num_heads = args.num_heads;
  params.num_kv_heads = args.num_kv_heads;
  params.head_dim = args.head_dim;
  params.spans = span_count(batch.max_context_len);
  params.window = args.sliding_window;
  set_scores(params, args.scale, args.softcap);
  return params;
}

Kernel fma_kernel(DType dtype) {
  return dtype == DType::f32    ? Kernel::attention_fma_f32
         : dtype == DType::f16  ? Kernel::attention_fma_f16
         : dtype == DType::q8_0 ? Kernel::attention_fma_q8_0
         : dtype == DType::fp8  ? Kernel::attention_fma_fp8
                                : Kernel::attention_fma_bf16;
}

struct MmaKernels {
  int head_dim;
  DType dtype;
  Kernel tiles, spans;
};
constexpr MmaKernels kMmaKernels[] = {
    {64, DType::f16, Kernel::attention_tiles_f16_64, Kernel::attention_spans_f16_64},
    {80, DType::f16, Kernel::attention_tiles_f16_80, Kernel::attention_spans_f16_80},
    {96, DType::f16, Kernel::attention_tiles_f16_96, Kernel::attention_spans_f16_96},
    {128, DType::f16, Kernel::attention_tiles_f16_128, Kernel::attention_spans_f16_128},
    {256, DType::f16, Kernel::attention_tiles_f16_256, Kernel::attention_spans_f16_256},
    {64, DType::bf16, Kernel::attention_tiles_bf16_64, Kernel::attention_spans_bf16_64},
    {80, DType::bf16, Kernel::attention_tiles_bf16_80, Kernel::attention_spans_bf16_80},
    {96, DType::bf16, Kernel::attention_tiles_bf16_96, Kernel::attention_spans_bf16_96},
    {128, DType::bf16, Kernel::attention_tiles_bf16_128, Kernel::attention_spans_bf16_128},
    {256, DType::bf16, Kernel::attention_tiles_bf16_256, Kernel::attention_spans_bf16_256},
    {64, DType::q8_0, Kernel::attention_tiles_q8_0_64, Kernel::attention_spans_q8_0_64},
    {128, DType::q8_0, Kernel::attention_tiles_q8_0_128, Kernel::attention_spans_q8_0_128},
    {256, DType::q8_0, Kernel::attention_tiles_q8_0_256, Kernel::attention_spans_q8_0_256},
    {64, DType::fp8, Kernel::attention_tiles_fp8_64, Kernel::attention_spans_fp8_64},
    {128, DType::fp8, Kernel::attention_tiles_fp8_128, Kernel::attention_spans_fp8_128},
    {256, DType::fp8, Kernel::attention_tiles_fp8_256, Kernel::attention_spans_fp8_256},
};

/// The tensor-core kernels for a model's cache, or null: decided by what never changes, so that bits do not either.
const MmaKernels* mma_kernels(const Launcher& launcher, const AttentionArgs& args) {
  const DType dtype = args.kv.keys.dtype;
  if (dtype == DType::bf16 && launcher.arch() < 80) return nullptr;
  const auto* found = std::find_if(std::begin(kMmaKernels), std::end(kMmaKernels), [&](const MmaKernels& k) {
    return k.head_dim == args.head_dim && k.dtype == dtype;
  });
  return found != std::end(kMmaKernels) ? found : nullptr;
}

/// Whether pages hold codes of 8 bits.
bool is_q8(const AttentionArgs& args) { return args.kv.keys.dtype == DType::q8_0 || args.kv.keys.dtype == DType::fp8; }

/// Blocks of `rows` rows for sequences of at most `queries` tokens.
Grid row_grid(const AttentionParams& params, std::int64_t queries, int rows, int sequences, int spans) {
  const std::int64_t tiles = (queries * (params.num_heads / params.num_kv_heads) + rows - 1) / rows;
  return {static_cast<unsigned>(tiles * params.num_kv_heads), static_cast<unsigned>(sequences),
          static_cast<unsigned>(spans)};
}

void launch_spans(Launcher& launcher, const AttentionArgs& args, const AttentionParams& params, int sequences) {
  if (const MmaKernels* mma = mma_kernels(launcher, args)) {
    launcher.run(mma->spans, row_grid(params, params.split_queries, kMmaRows, sequences, params.spans), params,
                 static_cast<unsigned>(spans_shared_bytes(args.head_dim, is_q8(args))));
  } else {
    launch_fma(launcher, fma_kernel(args.kv.keys.dtype), params, params.split_queries, sequences, params.spans);
  }
}

void launch_tiles(Launcher& launcher, const AttentionArgs& args, const AttentionParams& params, int sequences) {
  const std::int64_t queries = args.batch->max_query_len;
  if (const MmaKernels* mma = mma_kernels(launcher, args)) {
    const int rows = tile_rows(args.head_dim, launcher.arch());
    launcher.run(mma->tiles, row_grid(params, queries, rows, sequences, 1), params,
                 static_cast<unsigned>(tiles_shared_bytes(args.head_dim, is_q8(args), launcher.arch())));
  } else {
    launch_fma(launcher, fma_kernel(args.kv.keys.dtype), params, queries, sequences, 1);
  }
}

}  // namespace

OutRows::OutRows(const Launcher& launcher, const Tensor& out, std::int64_t num_tokens, std::int64_t columns) {
  if (out) {
    rows = out;
    return;
  }
  workspace = aligned(static_cast<std::size_t>(num_tokens * columns) * sizeof(float));
  INFERD_CHECK(workspace <= launcher.workspace_bytes());
  rows = Tensor(launcher.workspace(), DType::f32, {num_tokens, columns});
}

void launch_fma(Launcher& launcher, Kernel kernel, const AttentionParams& params, std::int64_t queries, int sequences,
                int spans) {
  const Grid grid = row_grid(params, queries, kFmaRows, sequences, spans);
  launcher.run(kernel, grid, params, static_cast<unsigned>(fma_shared_floats(params.head_dim)) * sizeof(float));
}

std::size_t attention_workspace_bytes(std::int64_t max_tokens, std::int64_t max_sequences, std::int64_t max_context_len,
                                      int num_heads, int head_dim) {
  return aligned(static_cast<std::size_t>(max_tokens * num_heads * head_dim) * sizeof(float)) +
         partial_bytes(max_sequences, span_count(max_context_len), num_heads, head_dim);
}

void attention(Launcher& launcher, const AttentionArgs& args) {
  const BatchTensors& batch = *args.batch;
  if (batch.num_tokens == 0) return;
  INFERD_CHECK(args.head_dim % 8 == 0 && args.head_dim <= kMaxHeadDim && args.num_heads % args.num_kv_heads == 0);
  INFERD_CHECK(args.head_dim % dtype_info(args.kv.keys.dtype).block_elements == 0);
  INFERD_CHECK(args.scale > 0.0f && args.kv.block_size == kPageKeys && batch.num_sequences <= kMaxGrid);
  AttentionParams params = cached_params(args);
  const OutRows out(launcher, args.out, batch.num_tokens, std::int64_t{args.num_heads} * args.head_dim);
  params.out = out.rows.as<float>();
  params.out_stride = out.rows.row_stride;
  params.split_queries = choose_split_queries(args, params.spans, launcher.workspace_bytes() - out.workspace);
  if (params.split_queries > 0) {
    const std::int64_t rows = std::int64_t{batch.num_sequences} * params.split_queries;
    std::byte* partials = launcher.workspace() + out.workspace;
    params.partial_states = reinterpret_cast<float*>(partials);
    const auto count = static_cast<std::size_t>(rows * params.spans * args.num_heads);
    params.partial_values = reinterpret_cast<float*>(partials + aligned(count * 2 * sizeof(float)));
    params.split = 1;
    launch_spans(launcher, args, params, batch.num_sequences);
    launcher.run(Kernel::attention_combine,
                 {static_cast<unsigned>(args.num_heads + 3) / 4, static_cast<unsigned>(rows)}, params);
    params.split = 0;
  }
  if (batch.max_query_len > params.split_queries) {
    launch_tiles(launcher, args, params, batch.num_sequences);
  }
  if (args.out_activation) to_activation(launcher, {out.rows, args.out_activation});
}

}  // namespace inferd::cuda
