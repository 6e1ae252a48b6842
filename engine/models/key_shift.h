// key_shift: what the rotated keys of a layer have in common because of their bias.
#pragma once

#include <span>
#include <vector>

#include "engine/weights/model_config.h"

namespace inferd {

struct KeyShift {
  std::vector<float> mean;  // [num_kv_heads * head_dim]
  float swing = 0.0f;       // largest root mean square, over positions, of how far a pair turns away from its mean
};

/// Mean over the first positions of the rotated `bias` [num_kv_heads * head_dim] of a key projection. Pairs that turn
/// slowly keep their bias, which in Qwen2 is far larger than the keys' differences; what pairs that turn fast lose is
/// their swing. inv_freq: [rotary_dim / 2].
KeyShift key_shift(std::span<const float> bias, int head_dim, const RopeConfig& rope, std::span<const float> inv_freq,
                   float attention_scaling);

}  // namespace inferd
