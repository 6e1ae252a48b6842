// ChatGLM-6B: GLM (arXiv:2103.10360) as published with its first weights.
#include <algorithm>
#include <cmath>

#include "base/errors.h"
#include "base/log.h"
#include "engine/models/families.h"
#include "engine/models/gelu_decoder.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

/// The tokens that part a prompt.
struct Marks {
  std::int32_t gmask = -1, mask = -1;  // stand where the answer belongs
  std::int32_t start = -1;             // <sop>: the context ends, the answer begins
};

Marks read_marks(const Checkpoint& checkpoint, const ModelConfig& config) {
  const auto json = checkpoint.json("config.json");
  if (!json) throw CheckpointError(log_safe(checkpoint.path()), "config.json", "this file", "none");
  const JsonFields fields(*json, log_safe(checkpoint.path()) + "/config.json");
  const auto id = [&](std::string_view name) {
    return static_cast<std::int32_t>(fields.require_integer({name}, 0, config.vocab_size - 1));
  };
  return {id("gmask_token_id"), id("mask_token_id"), id("bos_token_id")};
}

/// Frequencies as the published code keeps them: rounded to half precision even where it computes in single.
std::vector<float> half_precision(std::vector<float> values) {
  constexpr int kBits = 11;
  for (float& value : values) {
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    value = std::ldexp(std::nearbyint(std::ldexp(fraction, kBits)), exponent - kBits);
  }
  return values;
}

/// The residual is the normed input times alpha. A head's first half turns with the token's position, its second half
/// with its place behind the context. The context, up to the first <sop>, sees itself both ways; tokens after it all
/// have the position of the [gMASK] (or [MASK]) they stand in for. A prompt without <sop> is all context.
class ChatGlm1Model final : public GeluDecoder {
 public:
  ChatGlm1Model(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend, const ModelOptions& options,
                const Marks& marks, GeluWeights weights, DeviceVector inv_freq, const WeightLoader& loader)
      : GeluDecoder(checkpoint, config, backend, options, step_tokens(config, options), std::move(weights), loader),
        marks_(marks),
        inv_freq_(std::move(inv_freq)),
        step_tokens_(step_tokens(config, options)) {
    const auto floats = static_cast<std::size_t>(step_tokens_ * config.rope.rotary_dim);
    ropes_ = backend.allocate(2 * floats * sizeof(float));
  }

  std::int64_t longest_context() const override { return config_.max_position_embeddings; }
  bool has_places() const override { return true; }

  PromptTraits prompt_traits(std::span<const std::int32_t> prompt) const override {
    const auto index = [&](std::int32_t token) {
      return static_cast<std::int32_t>(std::find(prompt.begin(), prompt.end(), token) - prompt.begin());
    };
    const auto length = static_cast<std::int32_t>(prompt.size());
    PromptTraits traits{.length = length, .shares_prefix = false, .context = index(marks_.start)};
    traits.mark = index(marks_.gmask);
    if (traits.mark == length) traits.mark = index(marks_.mask);
    if (traits.mark == length) traits.mark = std::max(traits.context - 1, 0);
    return traits;
  }

  TokenPlace place(const PromptTraits& traits, std::int64_t position) const override {
    const auto at = static_cast<std::int32_t>(position);
    if (at < traits.context) return {.position = at};
    return {.position = traits.mark, .block_position = at - traits.context + 1};
  }

 private:
  /// A whole context may come with one token of every sequence that answers.
  static std::int64_t step_tokens(const ModelConfig& config, const ModelOptions& options) {
    return std::max(options.max_batch_tokens, config.max_position_embeddings + options.max_logit_rows);
  }

  Tensor rope(int which, const BatchTensors& batch) const {
    const std::int64_t pairs = config_.rope.rotary_dim / 2;
    float* base = static_cast<float*>(ropes_->data()) + which * step_tokens_ * config_.rope.rotary_dim;
    return Tensor(base, DType::f32, {batch.num_tokens, pairs, 2});
  }

  void begin(const BatchTensors& batch) override {
    INFERD_CHECK(batch.block_positions);
    backend_.embedding({.out = hidden(batch), .weight = weights_.embedding.get(), .ids = batch.tokens});
    backend_.rope_table({.positions = batch.positions, .inv_freq = inv_freq_.tensor(), .out = rope(0, batch)});
    backend_.rope_table({.positions = batch.block_positions, .inv_freq = inv_freq_.tensor(), .out = rope(1, batch)});
  }

  void attend(const Tensor& qkv, const BatchTensors& batch, const KvLayer& kv) override {
    backend_.qkv_post({.qkv = qkv,
                       .num_heads = config_.num_heads,
                       .num_kv_heads = config_.num_kv_heads,
                       .head_dim = config_.head_dim,
                       .rope = rope(0, batch),
                       .second_rope = rope(1, batch),
                       .rotary_dim = config_.rope.rotary_dim,
                       .style = config_.rope.style,
                       .kv = kv,
                       .slots = batch.slots});
    backend_.attention({.qkv = qkv,
                        .num_heads = config_.num_heads,
                        .num_kv_heads = config_.num_kv_heads,
                        .head_dim = config_.head_dim,
                        .kv = kv,
                        .batch = &batch,
                        .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                        .out_activation = attended()});
  }

  const Marks marks_;
  DeviceVector inv_freq_;  // [rotary_dim / 2]
  const std::int64_t step_tokens_;
  std::unique_ptr<DeviceBuffer> ropes_;  // two of [step_tokens, rotary_dim / 2, 2] f32
};

}  // namespace

LoadedModel load_chatglm1(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                          const ModelOptions& options) {
  const Marks marks = read_marks(checkpoint, config);
  WeightLoader loader(checkpoint, backend, options);
  const float alpha = std::sqrt(2.0f * static_cast<float>(config.num_layers));
  GeluWeights weights = load_gelu_weights(loader, config, QkvRows::by_head, alpha);
  const RopeFrequencies rope = rope_frequencies(config.rope, config.max_position_embeddings);
  DeviceVector inv_freq = loader.upload(half_precision(rope.inv_freq));
  loader.finish({"rotary_emb.inv_freq"});
  LoadedModel model;
  model.decoder = std::make_unique<ChatGlm1Model>(checkpoint, config, backend, options, marks, std::move(weights),
                                                  std::move(inv_freq), loader);
  return model;
}

}  // namespace inferd
