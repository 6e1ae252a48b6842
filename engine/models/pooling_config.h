// How an encoder's token vectors become one vector, as the model's files say.
#pragma once

#include <cstdint>

#include "engine/weights/model_config.h"
#include "kernels/ops.h"

namespace inferd {

struct PoolingConfig {
  PoolingKind kind = PoolingKind::mean;
  bool normalize = true;
  std::int64_t max_sequence_tokens = 0;  // specials included
};

/// Reads modules.json, the pooling module's config.json and sentence_bert_config.json (sentence-transformers), or
/// GGUF's pooling_type. Where the files are silent: mean, normalised. Throws CheckpointError for a kind or module that
/// inferd does not have.
PoolingConfig read_pooling_config(const Checkpoint& checkpoint, const ModelConfig& config);

/// True if config.json names a …ForSequenceClassification: a network with a head that scores its input.
bool is_sequence_classifier(const Checkpoint& checkpoint);

}  // namespace inferd
