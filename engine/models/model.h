// Model: the weights of one family plus its forward pass; decoders and encoders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/weights/model_config.h"
#include "kernels/backend.h"

namespace inferd {

struct LoraAdapter;  // engine/adapters/lora_adapter.h

/// What a served model is, for logs, /v1/models and the planner.
struct ModelInfo {
  std::string name;    // human name from the files
  std::string family;  // "qwen2"
  std::int64_t parameters = 0;
  std::string quantization;        // "Q4_K_M", "BF16", "Q4_1"
  std::size_t weight_bytes = 0;    // as stored
  std::size_t resident_bytes = 0;  // as the backend keeps them
  std::int64_t max_context = 0;    // positions the weights allow
  std::int64_t vocab_size = 0;     // rows of the logits
  std::int64_t hidden_size = 0;
  int num_experts = 0;  // of a layer that has any
  int experts_per_token = 0;
};

/// What one token costs in the KV cache.
struct KvSpec {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int host_layers = 0;  // the first of them, which are ModelOptions::host's
  std::vector<std::int32_t> fine_layers =
      {};  // ascending; they stay f16 in q8_0 and fp8 caches, which would not do for them
};

/// One layer boundary of a running forward: the engine checks cancels and feeds the watchdog here.
using LayerHook = std::function<void(int layer)>;

/// Loading options shared by all families.
struct ModelOptions {
  std::int64_t max_batch_tokens = 512;  // rows a forward may get
  std::int64_t max_logit_rows = 64;     // rows whose logits one forward may return
  // A decoder's forward returns what its output matrix would read, [rows, hidden_size] f32, instead of logits.
  bool features = false;
  int max_adapters = 0;  // adapters a decoder may have loaded at a time
  // The embedding and so many first layers of a decoder live on `host`, whose memory is the process's own; the other
  // layers and the output on the model's backend. Families that cannot be divided refuse it.
  int host_layers = 0;
  Backend* host = nullptr;                     // set if host_layers > 0; outlives the model
  std::int32_t yes_token = -1, no_token = -1;  // ids of the words by which a decoder reranks; -1: not in the vocabulary
  std::function<void(std::size_t done_bytes, std::size_t total_bytes)> progress;  // or empty
};

/// What a model derives from a whole prompt, once, when its request comes in; it holds for the tokens that follow too.
struct PromptTraits {
  std::int64_t length = 0;       // tokens of the prompt
  std::uint64_t kv_variant = 0;  // whatever makes keys and values depend on more than the tokens up to them
  bool shares_prefix = true;     // false: its blocks are nobody else's
  std::int32_t context = 0;      // its first tokens, which see one another both ways: computed in one step
  std::int32_t mark = 0;         // ChatGLM-6B: the position of all tokens after the context
};

/// How one token enters the rotary tables.
struct TokenPlace {
  std::int32_t position = 0;
  std::int32_t block_position = 0;  // BatchTensors::block_positions
  std::int32_t rope_row = 0;        // BatchTensors::rope_rows
};

/// A decoder. forward runs on the engine thread only. Owned by its EngineCore; outlived by its backend.
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual KvSpec kv_spec() const = 0;
  /// Where the first kv_spec().host_layers layers are; null if there are none.
  virtual Backend* host() const { return nullptr; }

  /// Slots for adapters, whose numbers stand in BatchTensors::adapters; 0: this decoder takes none.
  virtual int max_adapters() const { return 0; }
  /// Takes an adapter up under an empty slot, between steps. Throws CheckpointError if it does not fit the model,
  /// MemoryError.
  virtual void set_adapter(int slot, const LoraAdapter& adapter);
  virtual void drop_adapter(int slot);

  /// Thread-safe.
  virtual PromptTraits prompt_traits(std::span<const std::int32_t> prompt) const {
    return {.length = static_cast<std::int64_t>(prompt.size())};
  }
  /// Longest context (PromptTraits) a step may have to take in one piece; a forward takes so many tokens even beyond
  /// max_batch_tokens.
  virtual std::int64_t longest_context() const { return 0; }
  /// False: a token's place is its position in the sequence, and BatchTensors go without what only `place` can tell.
  virtual bool has_places() const { return false; }
  virtual TokenPlace place(const PromptTraits& traits, std::int64_t position) const {
    static_cast<void>(traits);
    return {.position = static_cast<std::int32_t>(position)};
  }

  /// Whether forwards call operations of the backend only, and for steps of one shape always the same.
  virtual bool capturable() const { return false; }
  /// Whether a forward needs no token on the host and never waits for its backend, so that one can be queued behind
  /// another.
  virtual bool only_queues() const { return capturable(); }

  /// Runs all layers over one step. kv has one KvLayer per layer, in the memory of the layer's backend. Writes logits
  /// [logit_rows.dim(0), vocab_size] f32 for the given rows of the batch (indices into T) and returns a view of them,
  /// valid until the next call.
  virtual Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                         const LayerHook& hook) = 0;
};

/// What the rows of an encoder's result are: vectors of texts, or scores of pairs (one column, before any sigmoid).
enum class EncoderKind { embedding, reranker };

/// An encoder (BERT and kin): token ids in, one pooled vector per sequence out. Same thread rule.
class EncoderModel {
 public:
  virtual ~EncoderModel() = default;
  virtual const ModelInfo& info() const = 0;
  /// Rows of BatchTensors one call may get, and the longest sequence (tokens, specials included).
  virtual std::int64_t max_batch_tokens() const = 0;
  virtual std::int64_t max_sequence_tokens() const = 0;
  /// Of those rows, what a sequence of `tokens` takes up.
  virtual std::int64_t batch_cost(std::int64_t tokens) const { return tokens; }
  /// Pools as the files say (mean/cls/…, normalised or not). Returns [S, embedding_dim] f32, valid until the next call.
  virtual Tensor encode(const BatchTensors& batch, const LayerHook& hook) = 0;
  virtual std::int64_t embedding_dim() const = 0;
  virtual EncoderKind kind() const { return EncoderKind::embedding; }
  /// True if vectors come at unit length.
  virtual bool normalizes() const { return false; }
};

/// Exactly one of the two is set.
struct LoadedModel {
  std::unique_ptr<Model> decoder;
  std::unique_ptr<EncoderModel> encoder;
};

/// Builds the model of `config.family` on `backend`, via the table in families.h. Throws CheckpointError/MemoryError.
LoadedModel load_model(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                       const ModelOptions& options);

}  // namespace inferd
