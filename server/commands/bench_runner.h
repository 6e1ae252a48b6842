// BenchRunner: times prefill and decode of one decoder in this process, through the engine's own steps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine_core.h"
#include "engine/models/model.h"
#include "engine/weights/checkpoint.h"
#include "kernels/backend.h"

namespace inferd {

/// One line of the table.
struct BenchCase {
  enum class Kind { prefill, decode } kind = Kind::prefill;
  std::int64_t tokens = 0;  // prefill: prompt tokens; decode: tokens each stream gets
  std::int64_t batch = 1;   // streams at once
  std::int64_t depth = 0;   // tokens each stream has in the KV cache before
  std::string name() const;
};

struct BenchResult {
  BenchCase what;
  std::int64_t tokens = 0;      // computed in one repetition, over all streams
  std::vector<double> seconds;  // of each repetition
  double median_s = 0;
  double tokens_per_s = 0;  // tokens / median_s
  double gb_per_s = 0;      // weights as stored plus keys and values that the steps read, 1e9 bytes a second; of
                            // experts as many as tokens would need that each picks any of them with equal chance
  double gflop_per_s = 0;   // products and sums of the linear layers and of attention, 1e9 a second
};

/// What one token costs this model, from the shapes in its files.
struct ModelCost {
  double layer_weights = 0;   // elements of the matrices every token passes
  double output_weights = 0;  // elements of the matrix every row of logits passes
  double layer_bytes = 0;     // as stored
  double output_bytes = 0;
  double expert_weights = 0;       // elements of all experts' matrices
  double expert_bytes = 0;         // as stored
  double expert_share = 0;         // of the experts, that a token passes
  double kv_bytes = 0;             // keys and values of one token, all layers
  double attention_flop_pair = 0;  // for one query against one key, all layers and heads
};

struct BenchOptions {
  std::int64_t repetitions = 3;
  EngineOptions engine;    // kv_dtype and max_batch_tokens count; the rest follows from the cases
  std::uint64_t seed = 1;  // of the random prompts
};

/// One thread at a time; owned by the bench command; the backend outlives it.
class BenchRunner {
 public:
  /// Loads the decoder and a KV cache for the largest case. Throws CheckpointError, MemoryError, ConfigError (also for
  /// an encoder, and for a case beyond the model's context).
  BenchRunner(const Checkpoint& checkpoint, Backend& backend, const std::vector<BenchCase>& cases,
              const BenchOptions& options);

  /// One untimed run, then the repetitions.
  BenchResult run(const BenchCase& what);
  const ModelInfo& info() const { return core_->info(); }
  const ModelCost& cost() const { return cost_; }

 private:
  double prefill_once(const BenchCase& what);
  double decode_once(const BenchCase& what);
  std::vector<std::shared_ptr<TokenStream>> start_streams(std::int64_t count, std::int64_t prompt_tokens,
                                                          std::int64_t output_tokens);
  void drain_streams(const std::vector<std::shared_ptr<TokenStream>>& streams);
  std::vector<TokenId> random_prompt(std::int64_t tokens);

  SystemClock clock_;
  BenchOptions options_;
  ModelCost cost_;
  std::unique_ptr<EngineCore> core_;
  std::uint64_t draws_ = 0;
};

}  // namespace inferd
