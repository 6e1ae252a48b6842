// Placement: what a decoder weighs layer by layer, and how its layers are divided between a GPU and the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"

namespace inferd {

/// Bytes of a decoder's parts, as stored.
struct DecoderFootprint {
  std::size_t embedding = 0;
  std::size_t output = 0;  // the output matrix; 0 if it is the embedding
  std::size_t shared = 0;  // outside the layers, neither of the two
  std::vector<std::size_t> layers;
  std::size_t kv_per_token = 0;       // keys and values of one token in one layer
  std::size_t workspace = 0;          // one device's memory of a step, an estimate
  std::size_t output_workspace = 0;   // likewise, for logits
  std::size_t weights() const;        // all of it, once
  std::size_t output_matrix() const;  // what the device with the output holds
};

/// `max_batch_tokens`, `logit_rows`: of one step. kv_dtype: as EngineOptions has it. ranks: of the one of so many GPUs
/// that has the most, each having its part of the matrices, of the keys and values, and all of the rest.
DecoderFootprint measure_decoder(const Checkpoint& checkpoint, const ModelConfig& config, DType kv_dtype,
                                 std::int64_t max_batch_tokens, std::int64_t logit_rows, int ranks = 1);

/// Where the parts go, and what that takes without any keys and values.
struct Placement {
  int host_layers = 0;  // the first of them; with all of them the output is on the host too, and the GPU is not used
  std::size_t gpu_bytes = 0;
  std::size_t host_bytes = 0;
};

/// What a division takes: the output goes with the last layers, the embedding with the first.
Placement place_layers(const DecoderFootprint& decoder, int host_layers);

/// Tokens whose keys and values an automatic division keeps room for, if nobody says how long a request may be.
constexpr std::int64_t kAutoContextTokens = 4096;

/// As many layers on the GPU as `gpu_bytes` hold with the output, the last first, each with keys and values of
/// `kv_tokens`; none if not even the output and one layer fit.
Placement choose_placement(const DecoderFootprint& decoder, std::size_t gpu_bytes, std::int64_t kv_tokens);

}  // namespace inferd
