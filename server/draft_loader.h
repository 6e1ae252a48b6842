// Loading a model's draft model: its files, the check that it speaks the same tokens, its weights.
#pragma once

#include <memory>
#include <string>

#include "engine/models/model.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "server/options.h"
#include "server/served_model.h"

namespace inferd {

/// Throws ConfigError, naming the first id that differs and both its texts, unless every id has the same text in both.
/// Ids that one of them does not have count as without text, so that padding makes no difference.
void check_same_vocabulary(const Tokenizer& model, const Tokenizer& draft, const std::string& model_name,
                           const std::string& draft_path);

/// The files of the draft model that a spec names, opened and checked before the large weights are loaded.
class DraftFiles {
 public:
  /// Nothing is opened if the spec names none. Throws ConfigError if it is not a draft for the model whose tokenizer
  /// this is, CheckpointError.
  DraftFiles(const ModelSpec& spec, const Tokenizer& tokenizer);

  /// Its weights on the context's backend, or null. Throws ConfigError, CheckpointError, MemoryError.
  std::unique_ptr<Model> load(const LoadContext& context) const;

 private:
  const ModelSpec& spec_;
  std::unique_ptr<Checkpoint> checkpoint_;  // null: simulated, or none
};

}  // namespace inferd
