// ScoreHead: from a text's vector to its relevance score, the head of cross-encoders.
#pragma once

#include "engine/models/arena_layout.h"
#include "engine/models/weight_loader.h"

namespace inferd {

/// score = W_out tanh(W_dense x), or W_out x without a dense layer. Absent by default.
class ScoreHead {
 public:
  ScoreHead() = default;
  /// BERT's (pooler.dense, classifier) or RoBERTa's (classifier.dense, classifier.out_proj), whichever the files have.
  /// Throws CheckpointError unless there is exactly one label: scores of several classes do not rank.
  static ScoreHead load(WeightLoader& loader, const Checkpoint& checkpoint, std::int64_t hidden_size);
  /// A matrix with one row and no bias.
  static ScoreHead of(Linear out);

  explicit operator bool() const { return out_.weight != nullptr; }
  void lay_out(ArenaLayout* arena, const Backend& backend, std::int64_t max_rows);
  /// `pooled` [S, hidden_size] f32 to [S, 1] f32, valid until the next call.
  Tensor run(Backend& backend, const Tensor& pooled);

 private:
  Linear dense_;  // [hidden_size, hidden_size] or no weight
  Linear out_;    // [1, hidden_size]
  Activation pooled_, dense_out_;
  Tensor scores_;  // [max_rows, 1] f32
};

}  // namespace inferd
