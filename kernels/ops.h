// THE CATALOGUE: one argument struct per operation of a Backend, a shape at every field.
#pragma once

#include <cstdint>

#include "kernels/sample_rules.h"
#include "kernels/tensor.h"

namespace inferd {

class Weight;       // a matrix as a backend keeps it (kernels/backend.h)
class LowRank;      // an adapter's update of one Weight (kernels/backend.h)
class ExpertGroup;  // a matrix of every expert of a layer (kernels/backend.h)

/// The input of linear layers, in whatever forms the backend's kernels want (CPU: f32 and/or int8 with block
/// scales; CUDA: bf16/f16). Opaque outside the backend; made by norm, activation-producing epilogues,
/// attention and to_activation; sized by Backend::activation_bytes. A view: never owns memory.
struct Activation {
  void* data = nullptr;
  std::int64_t rows = 0;     // capacity in rows
  std::int64_t columns = 0;  // K of the linear layers it feeds
  std::uint32_t forms = 0;   // which forms its consumers read: OR of Weight::activation_forms()
  explicit operator bool() const { return data != nullptr; }
};

/// One step as flat device arrays. T = num_tokens, S = num_sequences.
struct BatchTensors {
  Tensor tokens;     // [T] i32, token ids
  Tensor positions;  // [T] i32, absolute position of each token in its sequence
  Tensor slots;  // [T] i32, where its key/value goes: block * block_size + offset, < 0: nowhere; absent for encoders
  Tensor query_starts;     // [S + 1] i32, first row of each sequence; first element 0, last T
  Tensor context_lens;     // [S] i32, tokens a sequence's last query sees, this step's included; absent for encoders
  Tensor block_tables;     // [S, max_blocks] i32, KV block of each 16-token stretch; absent for encoders
  Tensor block_positions;  // [T] i32, second position of each token (ChatGLM-6B); absent elsewhere
  Tensor rope_rows;        // [T] i32, which row of RopeTableArgs::inv_freq a token takes; absent: the first
  Tensor prefix_lens;  // [S] i32, first tokens of a sequence that all its queries see, before them or not; absent: 0
  Tensor type_ids;     // [T] i32, part of its input each token belongs to (encoders); absent: all 0
  Tensor adapters;     // [T] i32, slot of the adapter each row goes through, -1: none; absent: none at all
  const BatchTensors* host = nullptr;  // the same arrays in host memory, for layers that run there; or null
  std::int32_t num_tokens = 0;
  std::int32_t num_sequences = 0;
  std::int32_t max_query_len = 0;
  std::int32_t max_context_len = 0;
};

/// Key and value memory of one layer, paged.
struct KvLayer {
  // Inside a block the order of a head's keys is the backend's own (the CPU's: [head_dim, block_size]), so blocks are
  // copied whole or not at all.
  Tensor keys;          // [num_blocks, num_kv_heads, block_size, head_dim] f16 | bf16 | f32 | q8_0 | fp8
  Tensor values;        // same shape
  int block_size = 16;  // a multiple of 16
};

/// Rows of an embedding matrix, widened to f32 (reads the packed layout, so tied models hold one copy).
struct EmbeddingArgs {
  Tensor out;                      // [T, hidden_size] f32
  const Weight* weight = nullptr;  // [vocab_size, hidden_size]
  Tensor ids;                      // [T] i32
  bool accumulate = false;         // out += instead of out = (BERT sums three embeddings)
};

enum class NormKind { rms, layer };

/// RMSNorm (arXiv:1910.07467) or LayerNorm of each row in f32. Writes `out`, `activation`, or both.
struct NormArgs {
  NormKind kind = NormKind::rms;
  Tensor x;       // [T, columns] f32; row stride may exceed columns
  Tensor weight;  // [columns] f32
  Tensor bias;    // [columns] f32 or absent
  float eps = 1e-5f;
  Tensor residual;        // [T, columns] f32 or absent: added to the result, in place of a bias; may be out
  Tensor out;             // [T, columns] f32 or absent; may be x
  Activation activation;  // or absent
};

/// f32 rows into the forms linear layers read.
struct ToActivationArgs {
  Tensor x;  // [T, columns] f32
  Activation out;
};

enum class Epilogue {
  none,
  gelu_erf,    // exact GELU, BERT
  gelu_tanh,   // BLOOM, ChatGLM-6B
  silu_gated,  // weight rows are [gate; up] halves: out = silu(gate) * up, half as many columns
  gelu_tanh_gated,
  gelu_erf_gated,  // GTE
  tanh,            // classification heads
};

/// True if the weight's rows are [gate; up] halves.
constexpr bool is_gated(Epilogue epilogue) {
  return epilogue == Epilogue::silu_gated || epilogue == Epilogue::gelu_tanh_gated ||
         epilogue == Epilogue::gelu_erf_gated;
}

/// out = epilogue(x W^T (+ addend) + bias) (+ residual). W is one Weight, possibly stacked from several matrices
/// (q,k,v). Every row's result depends on that row alone and is the same for every T, bit for bit, unless the backend
/// was made to let the latter go (CudaBackendOptions::batch_invariant).
struct LinearArgs {
  Activation x;                    // [T, in]
  std::int64_t num_tokens = 0;     // T ≤ x.rows
  const Weight* weight = nullptr;  // [out_rows, in]
  Tensor addend;                   // [T, out_rows] f32 or absent (LoraArgs::out)
  Tensor bias;                     // [out_rows] f32 or absent
  Epilogue epilogue = Epilogue::none;
  Tensor residual;            // [T, columns] f32 or absent: added after the epilogue; may be out
  Tensor out;                 // [T, columns] f32 or absent
  Activation out_activation;  // instead of out: what the next linear reads
};

/// What adapters add to the product of one linear layer, row by row (LoRA, arXiv:2106.09685): out[t] = B (A x[t]) with
/// the A and B of the row's adapter, the scale being folded into B. Rows without an adapter, or whose adapter leaves
/// this layer alone, become -0, which changes no sum. Every row's result depends on that row and its adapter alone.
struct LoraArgs {
  Activation x;                             // [T, columns], in a form the layer's weight reads
  std::int64_t num_tokens = 0;              // T
  Tensor adapters;                          // [T] i32: index into updates, or < 0 (BatchTensors::adapters)
  const LowRank* const* updates = nullptr;  // [num_updates], null where an adapter leaves this layer alone
  int num_updates = 0;
  Tensor shrunk;  // [T, max rank] f32, scratch: A x; at least as wide as the widest update's rank()
  Tensor out;     // [T, out_rows] f32
};

enum class RopeStyle { half, interleaved };  // pairs (i, i + R/2): Llama/Qwen | (2i, 2i+1): GLM, GGUF llama

/// cos and sin of every position of a step, computed once per step.
struct RopeTableArgs {
  Tensor positions;                // [T] i32
  Tensor inv_freq;                 // [rotary_dim / 2] f32, or [V, rotary_dim / 2] with rows
  Tensor rows;                     // [T] i32, row of inv_freq for each token, or absent
  float attention_scaling = 1.0f;  // multiplies cos and sin (YaRN)
  Tensor out;                      // [T, rotary_dim / 2, 2] f32: cos, sin
};

/// What stands between the QKV product and attention, fused: optional per-head RMSNorm of q and k, rotation of q and
/// k (arXiv:2104.09864 §3.4), and the write of k and v into the paged cache. Without a cache (encoders) k is rewritten
/// in place like q.
struct QkvPostArgs {
  Tensor qkv;  // [T, (num_heads + 2 num_kv_heads) * head_dim] f32: q heads, k heads, v heads; q rewritten
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  Tensor q_norm;  // [head_dim] f32 or absent
  Tensor k_norm;  // [head_dim] f32 or absent
  float norm_eps = 1e-6f;
  Tensor rope;         // [T, rotary_dim / 2, 2] f32 (RopeTableArgs::out) or absent
  Tensor second_rope;  // likewise or absent: turns elements [rotary_dim, 2 rotary_dim) of each head (ChatGLM-6B)
  int rotary_dim = 0;  // elements per head that rotate, even, ≤ head_dim; the rest pass through
  RopeStyle style = RopeStyle::half;
  Tensor q_scale;  // [T] f32 factor on q after rotation (Qwen-1 log-n) or absent
  /// [num_kv_heads * head_dim] f32 or absent: what q8_0 and fp8 caches keep keys without. Moving all keys of a head by
  /// one vector moves all scores of a query by one number, which softmax does not see; not for models that cap scores.
  Tensor k_shift;
  KvLayer kv;    // or absent: its keys are
  Tensor slots;  // [T] i32, < 0: nothing is written; absent without kv
};

/// Causal attention of this step's queries over the paged cache (their own keys were just written). Keys below
/// batch->prefix_lens are seen by every query of their sequence; all of them are in the cache then.
/// softmax(q k^T * scale) v in f32; GQA: query head h reads kv head h / (num_heads / num_kv_heads).
struct AttentionArgs {
  Tensor qkv;  // as in QkvPostArgs; only the q part is read
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  KvLayer kv;
  const BatchTensors* batch = nullptr;
  float scale = 0.0f;         // usually head_dim^-1/2
  int sliding_window = 0;     // w > 0: key j is seen by query i only if i - w < j; 0: all
  Tensor alibi_slopes;        // [num_heads] f32 or absent: adds -slope * (i - j)
  float softcap = 0.0f;       // c > 0: scores become c * tanh(score / c)
  Tensor out;                 // [T, num_heads * head_dim] f32 or absent
  Activation out_activation;  // or this
};

/// Two-way attention inside each sequence of a batch, no cache (encoders).
struct EncoderAttentionArgs {
  Tensor qkv;  // [T, 3 * num_heads * head_dim] f32: q heads, k heads, v heads
  int num_heads = 0;
  int head_dim = 0;
  const BatchTensors* batch = nullptr;
  float scale = 0.0f;
  Tensor out;                 // [T, num_heads * head_dim] f32 or absent
  Activation out_activation;  // or this
};

inline constexpr std::int64_t kExpertRowAlign = 4;  // rows of an expert begin at multiples of it
inline constexpr int kMaxExperts = 1024;            // of a layer
inline constexpr int kMaxExpertsPerToken = 32;

/// Rows that experts compute for so many tokens, and gaps between them.
constexpr std::int64_t expert_rows(std::int64_t tokens, std::int64_t top_k, std::int64_t experts) {
  const std::int64_t picks = tokens * top_k;
  return picks + (kExpertRowAlign - 1) * (picks < experts ? picks : experts);
}

/// Which experts of a layer a step's tokens go through, E of them, k for each of T tokens. The rows that experts
/// compute stand expert by expert, then token by token, with gaps; N = expert_rows(T, k, E). On the backend.
struct ExpertPlan {
  Tensor starts;   // [E] i32, first row of each expert
  Tensor counts;   // [E] i32, its rows
  Tensor tokens;   // [N] i32, token of each row; -1: none
  Tensor experts;  // [T, k] i32, experts of each token, rising
  Tensor weights;  // [T, k] f32, what they count
  Tensor places;   // [T, k] i32, their rows
  Tensor tiles;    // [N, 4] i32, the backend's own notes
};

/// The plan of a step: the k experts with the largest logits, the lower one among equals; weights are the softmax of
/// all logits there (arXiv:2101.03961), over their sum if `normalize`. Every token's choice depends on its logits
/// alone.
struct RouteArgs {
  Tensor logits;  // [T, E] f32
  bool normalize = false;
  ExpertPlan plan;
};

/// out[i] = x[rows[i]] in all forms of out, which x has too; rows[i] < 0: nothing.
struct GatherActivationArgs {
  Activation x;
  Tensor rows;  // [R] i32, R ≤ out.rows
  Activation out;
};

/// out = epilogue(x W^T), W that of each row's expert. A row's result is what `linear` gives with that expert's Weight,
/// bit for bit. Rows in gaps stay as they were, or become anything.
struct ExpertLinearArgs {
  Activation x;  // [N, in]
  const ExpertPlan* plan = nullptr;
  const ExpertGroup* group = nullptr;  // E times [out_rows, in]
  Epilogue epilogue = Epilogue::none;
  Tensor out;                 // [N, columns] f32 or absent
  Activation out_activation;  // instead of out
};

/// x[t] += sum of weights[t, j] * product[places[t, j]] over j, and sigmoid(gate[t]) * shared[t] if present.
struct CombineExpertsArgs {
  Tensor product;  // [N, columns] f32
  const ExpertPlan* plan = nullptr;
  Tensor shared;  // [T, columns] f32 or absent
  Tensor gate;    // [T, 1] f32, with shared
  Tensor x;       // [T, columns] f32
};

/// out[i] = x[rows[i]].
struct GatherRowsArgs {
  Tensor x;     // [T, columns] f32
  Tensor rows;  // [R] i32
  Tensor out;   // [R, columns] f32
};

enum class PoolingKind { mean, cls, last, max };

/// One vector per sequence.
struct PoolArgs {
  Tensor x;  // [T, columns] f32
  const BatchTensors* batch = nullptr;
  PoolingKind kind = PoolingKind::mean;
  bool normalize = false;  // divide by the L2 norm
  Tensor out;              // [S, columns] f32
};

/// The next token of each row. Rules apply in this order: log-probabilities of
/// the raw row are noted; biases; bans; repetition, presence and frequency penalties; temperature; top_k; top_p (over
/// what top_k left); min_p (relative to the best); draw, walking the ids that are left in rising order until the
/// random number of (seed, position) is used up. Every row's result depends on that row and its rules alone.
struct SampleArgs {
  Tensor logits;                 // [R, vocab] f32; rules that change logits change them here
  Tensor slots;                  // [R] i32, index into rules, none twice; < 0: a row of padding, nothing is drawn
  SampleRules* rules = nullptr;  // device memory; positions and counts go on to the next step
  Tensor tokens;                 // [R] i32; 0 without a token
  Tensor status;                 // [R] i32, SampleStatus
  Tensor logprobs;               // [R] f32, of the token, where the rules ask for it; absent: they never do
  Tensor top_tokens;             // [R, kSampleTopLogprobs] i32, best first; absent with logprobs
  Tensor top_logprobs;           // [R, kSampleTopLogprobs] f32; what the rules do not ask for stays as it was
};

/// Tokens that a step takes from what the step before it drew: tokens[t] = drawn[sources[t]].
struct TakeTokensArgs {
  Tensor tokens;   // [T] i32
  Tensor sources;  // [T] i32, rows of drawn; < 0: the token stays
  Tensor drawn;    // [R] i32, SampleArgs::tokens
};

}  // namespace inferd
