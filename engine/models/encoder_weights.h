// The weights of encoders that norm after each block (BERT and kin), under the names each family gave them.
#pragma once

#include <memory>
#include <vector>

#include "engine/models/weight_loader.h"

namespace inferd {

/// LayerNorm with its bias.
struct LayerNorm {
  DeviceVector weight, bias;  // [hidden_size]
};

struct EncoderLayer {
  Linear qkv;                // [3 * hidden_size, hidden_size]
  Linear attention_out;      // [hidden_size, hidden_size]
  LayerNorm attention_norm;  // after the attention's residual
  Linear up;              // [intermediate_size, hidden_size]; gated: [2 * intermediate_size, hidden_size], gate first
  Linear down;            // [hidden_size, intermediate_size]
  LayerNorm output_norm;  // after the MLP's residual
};

struct EncoderWeights {
  std::unique_ptr<Weight> words;      // [vocab_size, hidden_size]
  std::unique_ptr<Weight> positions;  // [positions, hidden_size], from the first text position on; none: rotary
  std::unique_ptr<Weight> types;      // [type_count, hidden_size] or none
  std::int64_t type_count = 0;
  std::int64_t max_positions = 0;  // longest input
  LayerNorm embedding_norm;
  std::vector<EncoderLayer> layers;
  Epilogue activation = Epilogue::gelu_erf;  // of `up`
  DeviceVector inv_freq;                     // [rotary_dim / 2]; absent with learned positions
  float rope_scaling = 1.0f;
};

/// Loads the network without its head. Throws CheckpointError for relatives that compute something else under the same
/// model_type.
EncoderWeights load_encoder_weights(WeightLoader& loader, const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace inferd
