// ModelConfig: what config.json or GGUF metadata say about a model, in one normalised form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/weights/checkpoint.h"
#include "kernels/ops.h"

namespace inferd {

/// Rotary embedding parameters, as published (models.md §2).
struct RopeConfig {
  double theta = 10000.0;
  int rotary_dim = 0;                 // elements per head that rotate
  RopeStyle style = RopeStyle::half;  // set by load_model from the family's row
  bool interleaved_rows = false;      // likewise: q and k rows are in the order of interleaved pairs (GGUF llama)
  std::string scaling = "default";    // default | linear | dynamic | llama3 | yarn | longrope
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  std::optional<double> attention_factor, mscale, mscale_all_dim;
  std::int64_t original_max_position_embeddings = 0;  // before scaling; set for every scaling kind but default
  std::vector<float> short_factors, long_factors;     // longrope, [rotary_dim / 2]
  std::vector<float> freq_divisors;                   // GGUF rope_freqs.weight: inv_freq[i] /= this, empty if none
};

/// Hugging Face names for sizes. Absent numbers have been derived (head_dim, num_kv_heads, …).
struct ModelConfig {
  std::string model_type;  // config.json model_type or GGUF general.architecture
  std::string family;      // row of families.h ("llama", "qwen2", …); set by load_model
  std::string name;        // general.name, _name_or_path or the file's stem
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  double norm_eps = 1e-5;
  std::int64_t max_position_embeddings = 0;  // context limit after scaling
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  int sliding_window = 0;     // 0: none
  int max_window_layers = 0;  // layers ≥ this one slide (Qwen2)
  RopeConfig rope;
  std::vector<std::int32_t> eos_token_ids;  // union of config and generation_config
  std::int32_t bos_token_id = -1;
  std::int32_t pad_token_id = -1;
};

/// Sampling defaults that come with a model (generation_config.json or general.sampling.*).
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
};

/// Reads config.json (both dialects) or GGUF metadata. Throws CheckpointError naming the field.
ModelConfig read_model_config(const Checkpoint& checkpoint);
GenerationDefaults read_generation_defaults(const Checkpoint& checkpoint);

/// inv_freq [rotary_dim / 2] and the factor on cos and sin, for every scaling kind.
struct RopeFrequencies {
  std::vector<float> inv_freq;
  float attention_scaling = 1.0f;
};
/// `max_position_embeddings` is the context the model will serve. `sequence_length` matters to two kinds: dynamic grows
/// its base beyond original_max_position_embeddings (0: not beyond), longrope picks its long factors beyond it
/// (0: as for max_position_embeddings).
RopeFrequencies rope_frequencies(const RopeConfig& rope, std::int64_t max_position_embeddings,
                                 std::int64_t sequence_length = 0);

}  // namespace inferd
