// Decoders that serve as encoders: Qwen3-Embedding and kin (a vector of a text), Qwen3-Reranker (a score of a pair).
#pragma once

#include <cstdint>
#include <memory>

#include "engine/models/model.h"
#include "engine/models/pooling_config.h"
#include "engine/models/score_head.h"

namespace inferd {

/// What a decoder's files say it is for.
struct DecoderRole {
  enum class Kind { generator, embedder, reranker } kind = Kind::generator;
  PoolingConfig pooling;           // embedder
  bool has_head = false;           // reranker: score.weight, else the words yes and no
  bool has_labels = false;         // reranker: GGUF's cls.output.weight has the output rows of the words, and no others
  std::int32_t yes = -1, no = -1;  // reranker without a head: the words' rows, or their ids, if the files name them
};

/// A pooling module or GGUF pooling type makes an embedder. A sequence classifier, a LogitScore module, GGUF's rank
/// pooling, or a Qwen3 whose name contains "reranker" (many of its files say it nowhere else) make a reranker. Throws
/// CheckpointError for kinds inferd does not have.
DecoderRole read_decoder_role(const Checkpoint& checkpoint, const ModelConfig& config);

/// Loads the head of a reranking decoder: score.weight, or the difference of the output rows of yes and no, which are
/// all that cls.output.weight has.
ScoreHead load_decoder_head(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                            const ModelOptions& options, const DecoderRole& role);

/// Options a decoder is to be loaded with for this use.
ModelOptions encoder_options(const ModelConfig& config, const DecoderRole& role, const ModelOptions& options);

/// `decoder` was loaded with encoder_options: its forward returns features. Its whole input goes through in one step,
/// so all layers share the cache of one.
std::unique_ptr<EncoderModel> make_decoder_encoder(std::unique_ptr<Model> decoder, ScoreHead head, Backend& backend,
                                                   const ModelOptions& options, const DecoderRole& role);

}  // namespace inferd
