// Loading and running the heads of cross-encoders.
#include "engine/models/score_head.h"

#include <string>
#include <utility>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {

ScoreHead ScoreHead::load(WeightLoader& loader, const Checkpoint& checkpoint, std::int64_t hidden_size) {
  const bool roberta = loader.has("classifier.out_proj.weight");
  const std::string out = roberta ? "classifier.out_proj" : "classifier";
  const StoredTensor* weight = checkpoint.find(out + ".weight");
  if (weight != nullptr && !weight->shape.empty() && weight->shape[0] != 1) {
    throw CheckpointError(weight->file, out + ".weight", "one label (a reranker)",
                          std::to_string(weight->shape[0]) + " labels (a classifier)");
  }
  ScoreHead head;
  head.dense_ =
      loader.linear({{roberta ? "classifier.dense" : "pooler.dense", hidden_size}}, hidden_size, Bias::required);
  head.out_ = loader.linear({{out, 1}}, hidden_size, Bias::required);
  return head;
}

ScoreHead ScoreHead::of(Linear out) {
  ScoreHead head;
  head.out_ = std::move(out);
  return head;
}

void ScoreHead::lay_out(ArenaLayout* arena, const Backend& backend, std::int64_t max_rows) {
  if (!out_.weight) return;
  const Weight& first = dense_.weight ? *dense_.weight : *out_.weight;
  const std::int64_t columns = out_.weight->columns();
  pooled_ = arena->activation(backend, max_rows, columns, first.activation_forms());
  if (dense_.weight) dense_out_ = arena->activation(backend, max_rows, columns, out_.weight->activation_forms());
  scores_ = arena->matrix(max_rows, 1);
}

Tensor ScoreHead::run(Backend& backend, const Tensor& pooled) {
  const std::int64_t rows = pooled.dim(0);
  const Tensor scores = scores_.first_rows(rows);
  backend.to_activation({.x = pooled, .out = pooled_});
  if (dense_.weight) {
    backend.linear({.x = pooled_,
                    .num_tokens = rows,
                    .weight = dense_.weight.get(),
                    .bias = dense_.bias.tensor(),
                    .epilogue = Epilogue::tanh,
                    .out_activation = dense_out_});
  }
  backend.linear({.x = dense_.weight ? dense_out_ : pooled_,
                  .num_tokens = rows,
                  .weight = out_.weight.get(),
                  .bias = out_.bias.tensor(),
                  .out = scores});
  return scores;
}

}  // namespace inferd
