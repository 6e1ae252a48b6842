// The operations of the CPU backend as free functions, and what they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/ops.h"

namespace inferd {

/// What every CPU operation is given: the workers, the instruction level, and scratch memory. Owned by the CPU backend;
/// used by one thread at a time (tasks on the pool read it).
struct CpuContext {
  ThreadPool& pool;
  CpuLevel level = CpuLevel::portable;
  /// Scratch of each worker, 64-byte aligned: `worker_scratch_floats` floats, at least max_columns + kMinScratchFloats.
  float* worker_scratch = nullptr;
  std::size_t worker_scratch_floats = 0;
  /// Scratch that all workers share, 64-byte aligned, cpu_shared_scratch_bytes(...) of the reserved sizes.
  std::byte* shared_scratch = nullptr;
  std::size_t shared_scratch_bytes = 0;

  /// Scratch of each worker for widened weight tiles, in ActivationMode::f32.
  float* decode_scratch = nullptr;
  std::size_t decode_scratch_floats = 0;

  /// Inputs whose columns are reordered for weights that are stored in an order of their own.
  std::byte* reorder_scratch = nullptr;
  std::size_t reorder_scratch_bytes = 0;

  static constexpr std::size_t kMinScratchFloats = 64 * 1024;
  float* decode_scratch_of(int worker) const {
    return decode_scratch == nullptr ? nullptr
                                     : decode_scratch + static_cast<std::size_t>(worker) * decode_scratch_floats;
  }
  float* scratch(int worker) const { return worker_scratch + static_cast<std::size_t>(worker) * worker_scratch_floats; }
};

/// Bytes of shared scratch the operations below want for steps of up to max_tokens tokens and rows of up to
/// max_columns; 0 if none (kernels/cpu/ops/).
std::size_t cpu_shared_scratch_bytes(int threads, std::int64_t max_tokens, std::int64_t max_columns);

// kernels/cpu/ops/: each does one operation of ops.h.
void cpu_norm(CpuContext& context, const NormArgs& args);
void cpu_rope_table(CpuContext& context, const RopeTableArgs& args);
void cpu_qkv_post(CpuContext& context, const QkvPostArgs& args);
void cpu_attention(CpuContext& context, const AttentionArgs& args);
void cpu_encoder_attention(CpuContext& context, const EncoderAttentionArgs& args);
void cpu_route(CpuContext& context, const RouteArgs& args);
void cpu_combine_experts(CpuContext& context, const CombineExpertsArgs& args);
void cpu_gather_rows(CpuContext& context, const GatherRowsArgs& args);
void cpu_pool(CpuContext& context, const PoolArgs& args);

// kernels/cpu/linear/
void cpu_embedding(CpuContext& context, const EmbeddingArgs& args);
void cpu_to_activation(CpuContext& context, const ToActivationArgs& args);
void cpu_linear(CpuContext& context, const LinearArgs& args);
std::unique_ptr<ExpertGroup> cpu_group_experts(std::span<const Weight* const> experts);
void cpu_gather_activation(CpuContext& context, const GatherActivationArgs& args);
void cpu_expert_linear(CpuContext& context, const ExpertLinearArgs& args);
void cpu_lora(CpuContext& context, const LoraArgs& args);

/// Writes row `row` of `activation` in all its forms from `x`, [activation.columns] f32. Safe to call from several
/// workers at once for different rows. x may be unaligned; it is only read.
void store_activation_row(const CpuContext& context, const Activation& activation, std::int64_t row, const float* x);

}  // namespace inferd
