// RopeVariants: rotary frequencies that follow the length of a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/weights/model_config.h"

namespace inferd {

/// Tables of one model, one row a variant. By default a single row for all lengths.
struct RopeVariants {
  std::vector<float> inv_freq;     // [rows, rotary_dim / 2]
  float attention_scaling = 1.0f;  // the same in every row
  std::int32_t rows = 1;
  std::function<std::int32_t(std::int64_t length)> row_of_length;  // empty: always 0
  bool follows_output = false;  // a token behind the prompt takes the row of its own position, else the prompt's

  std::int32_t row(std::int64_t prompt_length, std::int64_t position) const;
};

/// What the configuration's scaling asks for: `dynamic` has a row for every length beyond the original one, `longrope`
/// two, the others one. Both follow the output as transformers does: keys in the cache keep the row they were made
/// with.
RopeVariants rope_variants(const ModelConfig& config);

/// The first Qwen's (arXiv:2309.16609): the base grows with every doubling of the prompt beyond `trained_length`.
RopeVariants qwen_rope_variants(const ModelConfig& config, std::int64_t trained_length);

}  // namespace inferd
