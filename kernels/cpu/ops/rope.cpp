// Rotary tables, and the stage between the QKV product and attention, on the CPU.
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/ops/for_rows.h"
#include "kernels/cpu/ops/kv_element.h"
#include "kernels/cpu/ops/level_table.h"

namespace inferd {

void cpu_rope_table(CpuContext& context, const RopeTableArgs& args) {
  const std::int64_t pairs = args.inv_freq.dim(args.inv_freq.rank - 1);
  INFERD_CHECK(args.inv_freq.rank == (args.rows ? 2 : 1));
  for_rows(context.pool, args.positions.dim(0), [&](std::int64_t token, int) {
    const float position = static_cast<float>(args.positions.as<const std::int32_t>()[token]);
    const std::int64_t row = args.rows ? args.rows.as<const std::int32_t>()[token] : 0;
    const float* inv_freq = args.inv_freq.as<const float>() + row * pairs;
    float* out = args.out.as<float>() + token * args.out.row_stride;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float angle = position * inv_freq[i];  // rounded to f32, as the published models were trained
      out[2 * i] = std::cos(angle) * args.attention_scaling;
      out[2 * i + 1] = std::sin(angle) * args.attention_scaling;
    }
  });
}

void cpu_qkv_post(CpuContext& context, const QkvPostArgs& args) {
  const RowKernels& kernels = row_kernels(context.level);
  const std::int64_t block_size = args.kv.block_size;
  INFERD_CHECK(args.rotary_dim % 2 == 0 && args.rotary_dim * (args.second_rope ? 2 : 1) <= args.head_dim);
  QkvPostRow base;
  base.num_heads = args.num_heads;
  base.num_kv_heads = args.num_kv_heads;
  base.head_dim = args.head_dim;
  base.q_norm = args.q_norm.as<const float>();
  base.k_norm = args.k_norm.as<const float>();
  base.norm_eps = args.norm_eps;
  base.k_shift = args.k_shift.as<const float>();
  base.rotary_dim = args.rotary_dim;
  base.interleaved = args.style == RopeStyle::interleaved;
  const bool cached = static_cast<bool>(args.kv.keys);
  if (cached) base.element = kv_element(args.kv.keys.dtype);
  INFERD_CHECK(base.element != KvElement::q8_0 || args.head_dim % 32 == 0);
  base.block_size = args.kv.block_size;
  base.head_stride = kv_units(base.element, block_size * args.head_dim);
  base.key_stride = block_size;
  for_rows(context.pool, args.qkv.dim(0), [&](std::int64_t token, int) {
    QkvPostRow row = base;
    row.qkv = args.qkv.as<float>() + token * args.qkv.row_stride;
    if (args.rope) row.rope = args.rope.as<const float>() + token * args.rope.row_stride;
    if (args.second_rope) row.second_rope = args.second_rope.as<const float>() + token * args.second_rope.row_stride;
    if (args.q_scale) row.q_scale = args.q_scale.as<const float>()[token];
    if (!cached) return kernels.qkv_post(row);
    const std::int64_t slot = args.slots.as<const std::int32_t>()[token];
    if (slot < 0) return kernels.qkv_post(row);
    const std::int64_t block = slot / block_size, offset = slot % block_size;
    const std::int64_t block_at = block * args.num_kv_heads * base.head_stride;
    row.slot = static_cast<int>(offset);
    // Keys by component, values by token (KeySource).
    row.keys = args.kv.keys.as<std::byte>() + (block_at + offset) * kv_unit_bytes(base.element);
    row.values = args.kv.values.as<std::byte>() + (block_at + offset * args.head_dim) * kv_unit_bytes(base.element);
    kernels.qkv_post(row);
  });
}

}  // namespace inferd
