// Attention inside each sequence, without a cache.
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/cuda_ops.h"

namespace inferd::cuda {

void encoder_attention(Launcher& launcher, const EncoderAttentionArgs& args) {
  const BatchTensors& batch = *args.batch;
  if (batch.num_tokens == 0) return;
  INFERD_CHECK(args.head_dim % 8 == 0 && args.head_dim <= kMaxHeadDim && batch.num_sequences <= kMaxGrid);
  const std::int64_t columns = std::int64_t{args.num_heads} * args.head_dim;
  AttentionParams params{};
  params.q = args.qkv.as<const float>();
  params.q_stride = args.qkv.row_stride;
  params.keys = params.q + columns;
  params.values = params.q + 2 * columns;
  params.kv_stride = args.qkv.row_stride;
  params.query_starts = batch.query_starts.as<const std::int32_t>();
  const OutRows out(launcher, args.out, batch.num_tokens, columns);
  params.out = out.rows.as<float>();
  params.out_stride = out.rows.row_stride;
  params.num_heads = args.num_heads;
  params.num_kv_heads = args.num_heads;
  params.head_dim = args.head_dim;
  params.score_scale = args.scale * kLog2E;
  launch_fma(launcher, Kernel::encoder_attention_fma, params, batch.max_query_len, batch.num_sequences, 1);
  if (args.out_activation) to_activation(launcher, {out.rows, args.out_activation});
}

}  // namespace inferd::cuda
