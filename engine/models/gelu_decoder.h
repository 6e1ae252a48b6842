// GeluDecoder: decoders of LayerNorms, biased projections and plain GELU MLPs, all heads with keys of their own.
#pragma once

#include <memory>
#include <vector>

#include "engine/models/adapter_bank.h"
#include "engine/models/encoder_weights.h"
#include "engine/models/model.h"
#include "engine/models/weight_loader.h"

namespace inferd {

/// h = norm(x); x = r + W f(h), where r is x, or h times a factor.
struct GeluBlockNorm {
  LayerNorm norm;      // [hidden_size]
  LayerNorm residual;  // norm times the factor on its result, which then stands in for x; absent: x itself
};

struct GeluLayer {
  GeluBlockNorm attention_norm;
  Linear qkv;  // [3 * hidden_size, hidden_size]: q heads, k heads, v heads
  Linear out;  // [hidden_size, hidden_size]
  GeluBlockNorm mlp_norm;
  Linear up;    // [intermediate_size, hidden_size]
  Linear down;  // [hidden_size, intermediate_size]
};

struct GeluWeights {
  std::unique_ptr<Weight> embedding;  // [vocab_size, hidden_size]; also the output matrix if tied
  std::vector<GeluLayer> layers;
  LayerNorm norm;
  Linear output;  // [vocab_size, hidden_size]; no weight if tied
  const Weight& output_weight() const { return output.weight ? *output.weight : *embedding; }
};

/// How files keep q, k and v of one layer.
enum class QkvRows { stacked, by_head };  // all q, all k, all v | q, k, v of the first head, then of the next

/// Loads all weights under the names decoders have in Hugging Face's files, from the dialect at hand. `residual_factor`
/// other than 0: the residual is the normed input times it.
GeluWeights load_gelu_weights(WeightLoader& loader, const ModelConfig& config, QkvRows rows, float residual_factor);

/// The stages of the forward; a family says how tokens enter and how positions take part in attention.
class GeluDecoder : public Model {
 public:
  /// Room for steps of `max_tokens` tokens.
  GeluDecoder(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
              std::int64_t max_tokens, GeluWeights weights, const WeightLoader& loader);

  const ModelInfo& info() const override { return info_; }
  KvSpec kv_spec() const override { return {config_.num_layers, config_.num_kv_heads, config_.head_dim}; }
  bool capturable() const override { return true; }
  int max_adapters() const override { return adapters_.slots(); }
  void set_adapter(int slot, const LoraAdapter& adapter) override { adapters_.set(slot, adapter); }
  void drop_adapter(int slot) override { adapters_.drop(slot); }
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override;

 protected:
  /// x = embedding of the tokens, and whatever depends on positions alone.
  virtual void begin(const BatchTensors& batch) = 0;
  /// Positions into q and k, keys and values into the cache, attention into `attended`.
  virtual void attend(const Tensor& qkv, const BatchTensors& batch, const KvLayer& kv) = 0;

  float eps() const { return static_cast<float>(config_.norm_eps); }
  Tensor hidden(const BatchTensors& batch) const { return hidden_.first_rows(batch.num_tokens); }
  const Activation& attended() const { return attended_; }

  ModelConfig config_;
  Backend& backend_;
  GeluWeights weights_;

 private:
  /// The activation becomes norm(x), and x what the block's result is added to.
  void enter(const GeluBlockNorm& norm, const Tensor& x);
  /// What adapters add to the product of `linear`; absent if none does.
  Tensor addend(const Linear& linear, const Activation& x, const BatchTensors& batch) const;
  void attention_block(const GeluLayer& layer, const BatchTensors& batch, const KvLayer& kv);
  void mlp_block(const GeluLayer& layer, const BatchTensors& batch);
  Tensor logits(const BatchTensors& batch, const Tensor& logit_rows);
  std::size_t lay_out(void* base, std::int64_t tokens, std::int64_t logit_rows);

  ModelInfo info_;
  AdapterBank adapters_;
  std::unique_ptr<DeviceBuffer> memory_;
  Tensor hidden_;            // [T, hidden_size] f32: the residual stream
  Tensor qkv_;               // [T, 3 * hidden_size] f32
  Activation normed_;        // [T, hidden_size]
  Activation attended_;      // [T, hidden_size]
  Activation widened_;       // [T, intermediate_size]
  Tensor logit_hidden_;      // [R, hidden_size] f32
  Activation logit_normed_;  // [R, hidden_size]
  Tensor logits_;            // [R, vocab_size] f32
  UpdateMemory updates_;
};

}  // namespace inferd
