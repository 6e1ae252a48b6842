// What one of several devices has of a model that is divided between them.
#pragma once

#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"

namespace inferd {

/// Throws ConfigError, with the numbers, unless heads, key-value heads and the MLP's inner size are multiples of
/// `ranks`. path: of the model, for the message.
void check_divisible(const std::string& path, const ModelConfig& config, int ranks);

/// Throws ConfigError if a matrix that is divided by its columns has blocks of two ranks' inputs, see check_ranks.
void check_column_shards(const Checkpoint& checkpoint, const ModelConfig& config, int ranks);

/// The configuration of one rank: its heads and its part of the MLP; what all ranks have whole stays as it is.
ModelConfig rank_config(const ModelConfig& config, int ranks);

}  // namespace inferd
