// Qwen, first generation: arXiv:2309.16609.
#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "engine/models/families.h"
#include "engine/models/layers.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

/// Factors on queries by position: log(p + 1) to the base of the trained length, where that is more than 1.
std::vector<float> log_n_factors(std::int64_t positions, std::int64_t trained_length) {
  std::vector<float> out(static_cast<std::size_t>(positions), 1.0f);
  for (std::int64_t p = trained_length; p < positions; ++p) {
    const double factor = std::log(static_cast<double>(p + 1)) / std::log(static_cast<double>(trained_length));
    out[static_cast<std::size_t>(p)] = static_cast<float>(factor);
  }
  return out;
}

}  // namespace

/// Llama's blocks with q, k and v in one biased matrix. Prompts beyond the trained length turn more slowly, and queries
/// beyond it weigh more. GGUF files do not record that length: there the context ends where the file says, unscaled.
LoadedModel load_qwen(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options) {
  WeightLoader loader(checkpoint, backend, options);
  DecoderWeights weights =
      load_decoder_weights(loader, config, backend, options, {.qkv_bias = Bias::required, .fused_qkv = true});
  const auto json = checkpoint.json("config.json");
  if (json && json->is_object()) {
    const JsonFields fields(*json, log_safe(checkpoint.path()) + "/config.json");
    const auto trained = fields.integer({"seq_length"}, 2, config.max_position_embeddings);
    if (trained && fields.boolean({"use_dynamic_ntk"}).value_or(false)) {
      weights.rope = qwen_rope_variants(config, *trained);
    }
    if (trained && fields.boolean({"use_logn_attn"}).value_or(false)) {
      weights.q_scales = log_n_factors(config.max_position_embeddings, *trained);
    }
  }
  LoadedModel model;
  model.decoder = std::make_unique<Decoder>(checkpoint, config, backend, options, std::move(weights), loader);
  return model;
}

}  // namespace inferd
