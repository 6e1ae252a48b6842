// Host halves of the CUDA ops: each turns an argument struct of ops.h into launches.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launcher.h"
#include "kernels/ops.h"

namespace inferd::cuda {

// One function per op of ops.h, in the file of the same basename; see there for what each computes. None allocates or
// waits. Work of zero rows launches nothing.
void embedding(Launcher& launcher, const EmbeddingArgs& args);                 // embedding.cpp
void norm(Launcher& launcher, const NormArgs& args);                           // norm.cpp
void to_activation(Launcher& launcher, const ToActivationArgs& args);          // to_activation.cpp
void linear(Launcher& launcher, const LinearArgs& args);                       // linear.cpp
void lora(Launcher& launcher, const LoraArgs& args);                           // lora.cpp
void rope_table(Launcher& launcher, const RopeTableArgs& args);                // rope.cpp
void qkv_post(Launcher& launcher, const QkvPostArgs& args);                    // qkv_post.cpp
void attention(Launcher& launcher, const AttentionArgs& args);                 // attention.cpp
void encoder_attention(Launcher& launcher, const EncoderAttentionArgs& args);  // encoder_attention.cpp
void gather_rows(Launcher& launcher, const GatherRowsArgs& args);              // rows.cpp
void pool(Launcher& launcher, const PoolArgs& args);                           // pool.cpp
void sample(Launcher& launcher, const SampleArgs& args);                       // sample.cpp
void take_tokens(Launcher& launcher, const TakeTokensArgs& args);              // rows.cpp
constexpr std::int64_t kMaxSampleVocab = 256 * 1024;                           // logits of a row that `sample` takes
std::size_t sample_workspace_bytes(std::int64_t rows);

/// Workspace attention wants: results on their way into an activation, and the partial sums of one query of each
/// sequence. With less it still works, longer contexts then being summed by fewer blocks.
std::size_t attention_workspace_bytes(std::int64_t max_tokens, std::int64_t max_sequences, std::int64_t max_context_len,
                                      int num_heads, int head_dim);
/// Workspace that any `linear` needs of at most so many tokens, whose weights have at most max_columns columns, and
/// rows too, or twice that if gated. (Rows of a weight that stores f32 directly, a language model's head, do not
/// count.)
std::size_t linear_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns);

}  // namespace inferd::cuda
