// Host halves of the CUDA ops: each turns an argument struct of ops.h into launches.
#pragma once

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

/// Workspace that any `linear` needs of at most so many tokens, whose weights have at most max_columns columns, and
/// rows too, or twice that if gated. (Rows of a weight that stores f32 directly, a language model's head, do not
/// count.)
std::size_t linear_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns);

}  // namespace inferd::cuda
