// Loading a model's draft model.
#include "server/draft_loader.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "engine/sim/sim_model.h"
#include "engine/weights/model_config.h"

namespace inferd {
namespace {

/// A token's text as a message shows it.
std::string shown(const std::string& bytes) {
  constexpr std::size_t kMost = 40;
  return bytes.empty() ? "nothing" : "'" + log_safe(bytes.substr(0, kMost)) + "'";
}

std::string draft_of(const ModelSpec& spec) {
  return "model " + log_safe(spec.name) + ": draft_model: " + log_safe(spec.draft_path);
}

}  // namespace

void check_same_vocabulary(const Tokenizer& model, const Tokenizer& draft, const std::string& model_name,
                           const std::string& draft_path) {
  const auto ids = static_cast<TokenId>(std::max(model.vocab_size(), draft.vocab_size()));
  for (TokenId id = 0; id < ids; ++id) {
    const std::string expected = model.token_bytes(id), found = draft.token_bytes(id);
    if (expected == found) continue;
    throw ConfigError("model " + log_safe(model_name) + ": draft_model: " + log_safe(draft_path) +
                      ": expected the same vocabulary, but token " + std::to_string(id) + " is " + shown(expected) +
                      " in the model and " + shown(found) + " in its draft model");
  }
}

DraftFiles::DraftFiles(const ModelSpec& spec, const Tokenizer& tokenizer) : spec_(spec) {
  if (spec.draft_path.empty()) return;
  ModelSpec draft;
  draft.path = spec.draft_path;
  if (draft.simulated() != spec.simulated()) {
    throw ConfigError(draft_of(spec) + ": one of the two is simulated and the other is not");
  }
  if (spec.simulated()) return;
  checkpoint_ = Checkpoint::open(spec.draft_path);
  check_same_vocabulary(tokenizer, *load_tokenizer(*checkpoint_), spec.name, spec.draft_path);
}

std::unique_ptr<Model> DraftFiles::load(const LoadContext& context) const {
  if (spec_.draft_path.empty()) return nullptr;
  if (spec_.simulated()) {
    SimOptions options = parse_sim_options(spec_.draft_path);
    options.max_logit_rows = context.engine_options.max_logit_rows;
    return make_sim_model(options);
  }
  ModelOptions options;
  options.max_batch_tokens = context.engine_options.max_batch_tokens;
  options.max_logit_rows = context.engine_options.max_logit_rows;
  if (context.progress) {
    options.progress = [&](std::size_t done, std::size_t total) { context.progress(spec_.draft_path, done, total); };
  }
  LoadedModel loaded = load_model(*checkpoint_, read_model_config(*checkpoint_), *context.backend, options);
  if (!loaded.decoder) throw ConfigError(draft_of(spec_) + ": expected a model that generates text");
  const ModelInfo& info = loaded.decoder->info();
  spdlog::info("model {}: guesses by {}: {}, {:.1f} M parameters, {}, {} resident", log_safe(spec_.name),
               log_safe(spec_.draft_path), log_safe(info.family), static_cast<double>(info.parameters) / 1e6,
               log_safe(info.quantization), megabytes(info.resident_bytes));
  return std::move(loaded.decoder);
}

}  // namespace inferd
