// ServedModel: one loaded model with everything between its text and the engine; ModelTable: all of them by name.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/adapters/lora_adapter.h"
#include "engine/engine.h"
#include "engine/options.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/model_config.h"
#include "engine/weights/sentence_config.h"
#include "server/grammar_cache.h"
#include "server/options.h"
#include "server/reasoning_formats.h"
#include "server/tool_formats/tool_format.h"

namespace inferd {

/// What a model is for.
enum class ModelKind { generator, embedder, reranker };

/// How a reranker reads a query and a document: as its tokenizer pairs them, or in Qwen3-Reranker's chat form.
enum class RerankForm { pair, qwen3 };

/// A loaded model. Immutable once in a table; its engine outlives it.
struct ServedModel {
  std::string name;
  std::int64_t created_unix_s = 0;
  std::string fingerprint;  // of build, weights and configuration
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null: chat is refused
  GenerationDefaults defaults;
  std::vector<TokenId> stop_ids;  // ids that end an answer of this model
  ModelInfo info;
  bool is_encoder = false;
  ModelKind kind = ModelKind::generator;
  Engine* engine = nullptr;
  ModelHandle handle = 0;
  std::int64_t context_length = 0;  // decoder: prompt + output; encoder: longest input
  std::int64_t embedding_dim = 0;   // encoder
  bool normalized = false;          // encoder: its vectors have unit length
  SentenceConfig sentence;          // encoder
  RerankForm rerank_form = RerankForm::pair;
  const ReasoningFormat* reasoning_format = nullptr;  // how its answers mark reasoning; null: they do not
  std::unique_ptr<GrammarCache> grammars;             // of constrained answers; null: an encoder
  const ToolFormatRow* tool_format = nullptr;         // how they call tools; null: not in a form known here
};

/// A LoRA adapter that is served under a name of its own.
struct ServedAdapter {
  std::string name;
  const ServedModel* base = nullptr;
  std::uint64_t id = 0;  // as Engine::load_adapter named it
  std::int64_t created_unix_s = 0;
};

/// What a request's `model` named: a model, and maybe an adapter on top of it.
struct ModelRef {
  const ServedModel* model = nullptr;
  std::uint64_t adapter = 0;                              // 0: none
  operator const ServedModel&() const { return *model; }  // NOLINT: most of a request needs the model alone
  const ServedModel& operator*() const { return *model; }
  const ServedModel* operator->() const { return model; }
};

/// The served models and their aliases: filled before serving, then read by many threads. Adapters come and go.
class ModelTable {
 public:
  void add(std::unique_ptr<ServedModel> model, const std::vector<std::string>& aliases);
  void add_alias(const std::string& alias, const std::string& name);

  /// The model `name` stands for; empty and "default" mean the first that can do it. Throws ApiError: 404 if there is
  /// none, 400 if it is of the other kind (`doing` names what was asked, e.g. "chat completions").
  ModelRef decoder(std::string_view name, const std::string& doing) const;            // or an adapter of one
  const ServedModel& encoder(std::string_view name, const std::string& doing) const;  // an embedding model
  const ServedModel& reranker(std::string_view name, const std::string& doing) const;
  const ServedModel& any(std::string_view name) const;  // an adapter's base for its name
  /// Every model, in the order given at start.
  const std::vector<std::unique_ptr<ServedModel>>& all() const { return models_; }
  /// Aliases, with the model they stand for.
  const std::map<std::string, const ServedModel*, std::less<>>& aliases() const { return aliases_; }
  const ServedModel* find(std::string_view name) const;

  /// False if the name is taken.
  bool add_adapter(const ServedAdapter& adapter);
  /// Takes the name off the list; what it stood for, or nothing.
  std::optional<ServedAdapter> remove_adapter(std::string_view name);
  std::optional<ServedAdapter> find_adapter(std::string_view name) const;
  std::vector<ServedAdapter> adapters() const;

 private:
  const ServedModel& of_kind(std::string_view name, ModelKind kind, const std::string& doing) const;
  std::vector<std::unique_ptr<ServedModel>> models_;
  std::map<std::string, const ServedModel*, std::less<>> aliases_;
  mutable std::mutex adapters_mutex_;
  std::map<std::string, ServedAdapter, std::less<>> adapters_;
};

inline constexpr int kAutoLayers = -1;        // as many as fit
inline constexpr int kAllLayers = 1'000'000;  // whether they fit or not

/// What loading shares between models.
struct LoadContext {
  Engine& engine;
  Backend* backend;  // null if only sim models are served
  Backend& sim_backend;
  EngineOptions engine_options;
  std::int64_t max_queued_inputs = 4096;
  WeightCache weight_cache{};  // of weights quantised at load
  int threads = 0;             // that quantise them; 0: all cores
  std::string build;           // goes into the fingerprint
  std::function<void(const std::string& model, std::size_t done_bytes, std::size_t total_bytes)> progress;
  std::function<Backend&()> host = {};  // on a GPU: where layers go that stay on the processor
  int gpu_layers = kAutoLayers;         // with host: how many of the last layers `backend` gets
};

/// A model with its weights on its device, which has no place in an engine yet.
struct PreparedModel {
  std::unique_ptr<ServedModel> served;
  LoadedModel weights;
  std::unique_ptr<Model> draft;  // guesses for a decoder, or null
  Backend* backend = nullptr;
  std::int64_t context_length = 0;  // asked for this model; 0: as the engine's options say
};

/// Opens the files and loads the weights. Throws FatalErrors.
PreparedModel prepare_model(const ModelSpec& spec, const LoadContext& context);
/// Adds the model to the engine, with a KV cache if it is a decoder. `context` is the one it was prepared with, but for
/// the engine's options. Throws FatalErrors.
std::unique_ptr<ServedModel> place_model(PreparedModel prepared, const LoadContext& context);
/// Both at once.
std::unique_ptr<ServedModel> load_served_model(const ModelSpec& spec, const LoadContext& context);

/// Reads an adapter's files, fits it to `base` and puts it into the table. Throws CheckpointError (bad or unfit files),
/// ConfigError (a name that is taken, or a model that takes no adapters), MemoryError.
void serve_adapter(ModelTable& models, const ServedModel& base, const std::string& name, const AdapterFiles& files);

/// The log line of a loaded model.
void log_served_model(const ServedModel& model);

}  // namespace inferd
