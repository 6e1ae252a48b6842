// The blocks decoder families share: attention block, gated MLP, output, and the memory one forward needs.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/models/adapter_bank.h"
#include "engine/models/expert_mlp.h"
#include "engine/models/model.h"
#include "engine/models/rope_variants.h"
#include "engine/models/weight_loader.h"

namespace inferd {

/// x += W_o attention(rope(W_qkv norm(x))), or x += out_norm(...) of that product.
struct AttentionBlock {
  DeviceVector norm;            // [hidden_size]
  Linear qkv;                   // [(num_heads + 2 num_kv_heads) * head_dim, hidden_size]
  DeviceVector q_norm, k_norm;  // [head_dim] or absent: per-head RMSNorm before rotation
  DeviceVector k_shift;         // [num_kv_heads * head_dim] or absent: what the keys have in common (key_shift.h)
  Linear out;                   // [hidden_size, num_heads * head_dim]
  DeviceVector out_norm;        // [hidden_size] or absent
  int sliding_window = 0;       // 0: none
};

/// x += W_down(silu(W_gate h) * W_up h) with h = norm(x), or x += out_norm(...) of that product.
struct GatedMlp {
  DeviceVector norm;      // [hidden_size]
  Linear gate_up;         // [2 * intermediate_size, hidden_size], gate first
  Linear down;            // [hidden_size, intermediate_size]
  DeviceVector out_norm;  // [hidden_size] or absent
};

struct DecoderLayer {
  AttentionBlock attention;
  GatedMlp mlp;                        // with experts: its norm only
  std::unique_ptr<ExpertMlp> experts;  // or null
};

/// Weights of a decoder with rotary attention and gated MLPs.
struct DecoderWeights {
  std::unique_ptr<Weight> embedding;  // [vocab_size, hidden_size]; also the output matrix if tied
  std::vector<DecoderLayer> layers;
  std::vector<std::int32_t> fine_kv_layers;  // KvSpec::fine_layers
  DeviceVector norm;                         // [hidden_size]
  Linear output;                             // [vocab_size, hidden_size]; no weight if tied
  RopeVariants rope;
  std::vector<float> q_scales;  // [max_position_embeddings] or empty: factors on queries by position
  ExpertOptions experts;        // of the mixtures, if any layer has one
  const Weight& output_weight() const { return output.weight ? *output.weight : *embedding; }
};

/// What differs between families in the tensors of a layer.
struct DecoderLayerOptions {
  Bias qkv_bias = Bias::optional;
  bool qk_norm = false;
  bool fused_qkv = false;                  // q, k, v may be one tensor, in this order
  bool fused_gate_up = false;              // gate and up are one tensor, in this order
  bool output_norms = false;               // what attention and MLP yield is normed before it is added
  const ExpertOptions* experts = nullptr;  // or null: no layer has experts
};

/// Loads all weights under their Hugging Face names, to ModelOptions::host what belongs there and the rest to
/// `backend`; layers from max_window_layers on slide.
DecoderWeights load_decoder_weights(WeightLoader& loader, const ModelConfig& config, Backend& backend,
                                    const ModelOptions& options, const DecoderLayerOptions& layer_options);

/// What runs on one backend: consecutive layers, and perhaps the output.
struct DecoderPart {
  Backend& backend;
  std::span<const DecoderLayer> layers;
  const Weight* output = nullptr;  // or null: another part's
};

/// Device memory of one part of a forward, allocated once for the largest step. T = max_batch_tokens,
/// R = max_logit_rows.
class DecoderWorkspace {
 public:
  DecoderWorkspace(const DecoderPart& part, const ModelConfig& config, const DecoderWeights& weights,
                   const AdapterBank& adapters, const ModelOptions& options);

  Tensor hidden;            // [T, hidden_size] f32: the residual stream
  Tensor qkv;               // [T, (num_heads + 2 num_kv_heads) * head_dim] f32
  Tensor rope;              // [T, rotary_dim / 2, 2] f32
  Tensor q_scale;           // [T, 1] f32 where queries have factors by position, else no rows
  Tensor block_out;         // [T, hidden_size] f32 where blocks have an out_norm, else no rows
  Activation normed;        // [T, hidden_size]
  Activation attended;      // [T, num_heads * head_dim]
  Activation gated;         // [T, intermediate_size]
  Tensor logit_hidden;      // [R, hidden_size] f32; these three where the output is
  Activation logit_normed;  // [R, hidden_size]
  Tensor logits;            // [R, vocab_size] f32
  UpdateMemory updates;

 private:
  /// Sets all views from `base` on (null: only measures). Returns the bytes they take.
  std::size_t lay_out(void* base, const DecoderPart& part, const ModelConfig& config, const DecoderWeights& weights,
                      const AdapterBank& adapters, const ModelOptions& options);
  std::unique_ptr<DeviceBuffer> memory_;
};

/// Rows of the residual stream that a stage works on.
struct DecoderRows {
  Tensor x;         // [n, hidden_size] f32
  Tensor adapters;  // [n] i32 or absent, as in BatchTensors
  std::int64_t count() const { return x.dim(0); }
};

/// Decoders of pre-norm residual blocks; the stages of their forward read and write the residual stream of the
/// workspace. A family whose computation differs overrides what differs.
class Decoder : public Model {
 public:
  /// `config` has been checked by load_model; `loader` has loaded `weights`.
  Decoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
          DecoderWeights weights, const WeightLoader& loader);

  const ModelInfo& info() const override { return info_; }
  int max_adapters() const override { return adapters_.slots(); }
  void set_adapter(int slot, const LoraAdapter& adapter) override { adapters_.set(slot, adapter); }
  void drop_adapter(int slot) override { adapters_.drop(slot); }
  KvSpec kv_spec() const override {
    return {config_.num_layers, config_.num_kv_heads, config_.head_dim, host_layers_, weights_.fine_kv_layers};
  }
  bool capturable() const override;
  Backend* host() const override { return lower_ ? &lower_->backend : nullptr; }
  PromptTraits prompt_traits(std::span<const std::int32_t> prompt) const override;
  bool has_places() const override { return weights_.rope.rows > 1; }
  TokenPlace place(const PromptTraits& traits, std::int64_t position) const override;
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override;

 protected:
  /// x = embedding of the tokens.
  void embed(const BatchTensors& batch);
  /// cos and sin of the positions, where the current part runs.
  void rotate(const BatchTensors& batch);
  /// An attention block as far as later tokens need it: queries, keys and values; the latter go into the cache.
  void append_keys(const AttentionBlock& block, const BatchTensors& batch, const KvLayer& kv);
  /// The rest of it.
  void attend(const AttentionBlock& block, const BatchTensors& batch, const KvLayer& kv);
  void gated_mlp(const GatedMlp& block, const DecoderRows& rows);
  void expert_mlp(const DecoderLayer& layer, const DecoderRows& rows);
  /// Final norm and output matrix of x, work.logit_hidden's first rows; without the matrix if features were asked for.
  Tensor logits(const Tensor& x);

  ModelConfig config_;  // of one rank
  DecoderWeights weights_;

 private:
  /// x += norm(W a); x += W a where `norm` is absent.
  void add_output(const Activation& a, const Linear& linear, const DeviceVector& norm, const DecoderRows& rows);

  /// What the adapters of these rows add to the product of `linear`; absent if none does.
  Tensor addend(const Linear& linear, const Activation& a, const DecoderRows& rows);

  DecoderRows all_rows(const BatchTensors& batch) const;

  /// Whether the last layer, its keys once written, goes on with the `wanted` rows alone: nobody reads the others.
  bool narrows(const BatchTensors& batch, std::int64_t wanted) const;

  /// These rows of the residual stream, in work.logit_hidden.
  Tensor gather(const Tensor& rows);

  /// One part with all that its stages need.
  struct Place {
    Place(const DecoderPart& part, const ModelConfig& config, const DecoderWeights& weights,
          const AdapterBank& adapters, const ModelOptions& options);
    Backend& backend;
    DecoderWorkspace work;
    DeviceVector inv_freq;                  // [rope.rows, rotary_dim / 2]
    DeviceVector q_scales;                  // [max_position_embeddings] or absent
    std::unique_ptr<ExpertRunner> experts;  // if any of its layers has experts
  };

  /// Takes the residual stream along to the next part.
  void move_to(Place& next, const BatchTensors& batch);

  const int host_layers_;
  ModelInfo info_;
  AdapterBank adapters_;
  std::unique_ptr<Place> lower_;  // where the first host_layers_ run; null: all on upper_
  std::unique_ptr<Place> upper_;
  Place* at_ = nullptr;  // of the stages that run now
  const bool features_;
};

/// A decoder whose family differs from others in these options only.
LoadedModel load_decoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                         const ModelOptions& options, const DecoderLayerOptions& layer_options);

/// ModelInfo of a loaded model.
ModelInfo make_model_info(const Checkpoint& checkpoint, const ModelConfig& config, std::size_t resident_bytes);

}  // namespace inferd
