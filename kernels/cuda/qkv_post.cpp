// Between the QKV product and attention: norms of q and k, their rotation, and keys and values into their pages.
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/qkv_post_params.h"

namespace inferd::cuda {
namespace {

constexpr int kHeadsPerBlock = 4;
constexpr int kMaxHeadDim = 256;

KvStored stored_as(DType dtype) {
  if (dtype == DType::q8_0) return kKvQ8;
  if (dtype == DType::fp8) return kKvFp8;
  INFERD_CHECK(dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16);
  return dtype == DType::f32 ? kKvF32 : dtype == DType::f16 ? kKvF16 : kKvBf16;
}

/// True if lanes may take `width` elements at once: nothing straddles an access, and every access is aligned.
bool fits(const QkvPostParams& p, int width) {
  const int unit = p.interleaved ? width : 2 * width;  // of rotary_dim
  return p.head_dim % width == 0 && (p.rope == nullptr || p.rotary_dim % unit == 0) &&
         aligned_rows(p.qkv, p.qkv_stride, width) && aligned_rows(p.q_norm, 0, width) &&
         aligned_rows(p.k_norm, 0, width) && aligned_rows(p.k_shift, 0, width) &&
         aligned_rows(p.rope, p.rope_stride, 4) && aligned_rows(p.second_rope, p.second_stride, 4);
}

}  // namespace

void qkv_post(Launcher& launcher, const QkvPostArgs& args) {
  const std::int64_t tokens = args.qkv.dim(0);
  INFERD_CHECK(args.head_dim > 0 && args.head_dim <= kMaxHeadDim && args.rotary_dim % 2 == 0 &&
               args.rotary_dim * (args.second_rope ? 2 : 1) <= args.head_dim && (args.rope || !args.second_rope));
  const bool cached = static_cast<bool>(args.kv.keys);
  QkvPostParams params{};
  params.qkv = args.qkv.as<float>();
  params.qkv_stride = args.qkv.row_stride;
  params.q_norm = args.q_norm.as<float>();
  params.k_norm = args.k_norm.as<float>();
  params.k_shift = args.k_shift.as<float>();
  params.rope = args.rope.as<float>();
  params.second_rope = args.second_rope.as<float>();
  params.rope_stride = args.rope.row_stride;
  params.second_stride = args.second_rope.row_stride;
  params.q_scale = args.q_scale.as<float>();
  params.num_heads = args.num_heads;
  params.num_kv_heads = args.num_kv_heads;
  params.head_dim = args.head_dim;
  params.rotary_dim = args.rotary_dim;
  params.interleaved = args.style == RopeStyle::interleaved;
  params.eps = args.norm_eps;
  if (cached) {
    params.keys = args.kv.keys.data;
    params.values = args.kv.values.data;
    params.slots = args.slots.as<std::int32_t>();
    params.element = stored_as(args.kv.keys.dtype);
    params.block_size = args.kv.block_size;
    INFERD_CHECK(params.element != kKvQ8 || (args.head_dim % 32 == 0 && args.kv.block_size % 2 == 0));
    INFERD_CHECK(params.element != kKvFp8 || args.kv.block_size % 4 == 0);
  }
  const bool changes_q = args.q_norm || args.rope || args.q_scale;
  const bool changes_k = args.k_norm || args.rope || cached;
  const int first_key = args.num_heads, first_value = args.num_heads + args.num_kv_heads;
  params.first_head = changes_q ? 0 : first_key;
  params.end_head = cached ? first_value + args.num_kv_heads : changes_k ? first_value : first_key;
  const int heads = params.end_head - params.first_head;
  if (tokens == 0 || heads <= 0) return;
  const Grid grid{static_cast<unsigned>(tokens), static_cast<unsigned>((heads + kHeadsPerBlock - 1) / kHeadsPerBlock)};
  if (args.head_dim > 64 && fits(params, 4)) {
    launcher.run(Kernel::qkv_post_4, grid, params);
  } else if (args.head_dim <= 64 && fits(params, 2)) {
    launcher.run(Kernel::qkv_post_2, grid, params);
  } else {
    launcher.run(Kernel::qkv_post_1, grid, params);
  }
}

}  // namespace inferd::cuda
