// Loading a model: files, tokenizer, template, weights, and its place in the engine.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include "base/errors.h"
#include "base/log.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/models/families.h"
#include "engine/models/placement.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "engine/sim/sim_model.h"
#include "engine/sim/sim_tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "server/draft_loader.h"
#include "server/served_model.h"
#include "server/tool_formats/formats.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxTemplateBytes = 1u << 20;
constexpr std::string_view kSim = "sim:";
constexpr std::string_view kSimEncoder = "sim-encoder:";

constexpr char kSimTemplate[] =
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// FNV-1a, to tell builds, weights and configurations apart.
class Fingerprint {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) hash_ = (hash_ ^ static_cast<unsigned char>(byte)) * 0x100000001b3ull;
    hash_ = (hash_ ^ 0xffu) * 0x100000001b3ull;
  }
  std::string text() const {
    char buffer[24];
    std::snprintf(buffer, sizeof buffer, "fp_%016llx", static_cast<unsigned long long>(hash_));
    return buffer;
  }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ull;
};

std::string fingerprint(const Checkpoint& checkpoint, const LoadContext& context) {
  constexpr std::size_t kSampleBytes = 64;  // of each tensor
  Fingerprint print;
  print.add(context.build);
  print.add(context.backend->name());
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    print.add(tensor.name);
    print.add(std::to_string(static_cast<int>(tensor.dtype)) + ":" + std::to_string(tensor.bytes));
    print.add({reinterpret_cast<const char*>(tensor.data), std::min(tensor.bytes, kSampleBytes)});
  }
  return print.text();
}

std::string read_template_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxTemplateBytes + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in && !in.eof()) throw ConfigError("chat_template: " + path + ": cannot be read: " + std::strerror(errno));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxTemplateBytes) throw ConfigError("chat_template: " + path + ": expected at most 1 MiB");
  return text;
}

std::string special_text(const Tokenizer& tokenizer, TokenId id) {
  return id >= 0 ? tokenizer.token_bytes(id) : std::string();
}

void add_stop_ids(ServedModel& model, const std::vector<std::int32_t>& ids) {
  for (const TokenId id : ids) {
    const auto known = std::find(model.stop_ids.begin(), model.stop_ids.end(), id);
    if (id >= 0 && known == model.stop_ids.end()) model.stop_ids.push_back(id);
  }
}

void set_template(ServedModel& model, std::unique_ptr<ChatTemplate> chat_template, const ModelSpec& spec) {
  model.chat_template = std::move(chat_template);
  if (model.chat_template == nullptr) return;
  model.reasoning_format = find_reasoning_format(spec.reasoning_parser, model.chat_template->source());
  model.tool_format = find_tool_format(spec.tool_parser, model.chat_template->source_with_tools());
}

LoadedModel load_sim(ServedModel& model, const ModelSpec& spec, const LoadContext& context,
                     std::unique_ptr<Model>* draft) {
  const bool encoder = spec.path.starts_with(kSimEncoder);
  const std::string options_text = spec.path.substr(encoder ? kSimEncoder.size() : kSim.size());
  SimOptions options = parse_sim_options(options_text);
  model.tokenizer = std::make_unique<ByteTokenizer>();
  if (options.vocab_size < model.tokenizer->vocab_size()) {
    throw ConfigError("sim model: vocab: expected at least " + std::to_string(model.tokenizer->vocab_size()) +
                      ", found " + std::to_string(options.vocab_size));
  }
  options.max_logit_rows = context.engine_options.max_logit_rows;
  Fingerprint print;
  print.add(context.build);
  print.add(options_text);
  model.fingerprint = print.text();
  if (encoder) {
    auto sim = make_sim_encoder(options);
    model.is_encoder = true;
    model.kind = ModelKind::embedder;
    model.embedding_dim = sim->embedding_dim();
    return {.decoder = nullptr, .encoder = std::move(sim)};
  }
  const std::string source =
      spec.chat_template_file.empty() ? kSimTemplate : read_template_file(spec.chat_template_file);
  set_template(
      model,
      parse_chat_template(source, spec.chat_template_file.empty() ? "sim" : spec.chat_template_file, "", "<|im_end|>"),
      spec);
  add_stop_ids(model, model.tokenizer->special().stop);
  add_stop_ids(model, {options.eos_token});
  *draft = DraftFiles(spec, *model.tokenizer).load(context);
  return {.decoder = make_sim_model(options), .encoder = nullptr};
}

/// The id of a word that is one token, else -1.
TokenId word_id(const Tokenizer& tokenizer, std::string_view word) {
  const std::vector<TokenId> ids = tokenizer.encode(MarkedText::untrusted(word), false);
  return ids.size() == 1 ? ids[0] : -1;
}

/// What requests to an encoder need to know about it.
void set_encoder(ServedModel& model, const EncoderModel& encoder, const Checkpoint& checkpoint) {
  model.is_encoder = true;
  model.kind = encoder.kind() == EncoderKind::reranker ? ModelKind::reranker : ModelKind::embedder;
  model.embedding_dim = encoder.embedding_dim();
  model.normalized = encoder.normalizes();
  model.sentence = read_sentence_config(checkpoint);
  if (encoder.info().family != "qwen3") return;
  // Published as trained for every length of vector, and with a form of its own for pairs; its files say neither.
  model.sentence.matryoshka = true;
  model.rerank_form = RerankForm::qwen3;
}

/// The model's files, their weights quantised if that is asked for.
std::unique_ptr<Checkpoint> open_files(const ModelSpec& spec, const LoadContext& context) {
  std::unique_ptr<Checkpoint> checkpoint = Checkpoint::open(spec.path);
  if (spec.quantization == LoadQuantization::none) return checkpoint;
  QuantizeOptions options{
      .to = spec.quantization, .cache = context.weight_cache, .threads = context.threads, .model = spec.name};
  if (context.progress) {
    options.progress = [&](std::size_t done, std::size_t total) { context.progress(spec.name, done, total); };
  }
  return quantize_checkpoint(std::move(checkpoint), options);
}

/// How many of its first layers a model leaves on the processor. Throws MemoryError if nothing of it fits on the GPU.
int host_layers_of(const Checkpoint& checkpoint, const ModelConfig& config, const ModelSpec& spec,
                   const LoadContext& context) {
  if (context.gpu_layers >= config.num_layers) return 0;
  if (context.gpu_layers != kAutoLayers) return config.num_layers - context.gpu_layers;
  if (!can_divide(checkpoint, config)) return 0;
  const EngineOptions& engine = context.engine_options;
  const std::int64_t asked = spec.context_length > 0 ? spec.context_length : engine.context_length;
  const std::int64_t tokens = std::min(asked > 0 ? asked : kAutoContextTokens, config.max_position_embeddings);
  const DecoderFootprint footprint =
      measure_decoder(checkpoint, config, engine.kv_dtype, engine.max_batch_tokens, engine.max_logit_rows);
  const std::size_t free = context.backend->available_bytes();
  const std::size_t extra = context.backend->extra_workspace_bytes(
      engine.max_batch_tokens, std::max(config.hidden_size, config.intermediate_size));
  const std::size_t available = free - std::min(free, extra);
  const int below = choose_placement(footprint, available, tokens).host_layers;
  if (below == config.num_layers) {
    const Placement least = place_layers(footprint, config.num_layers - 1);
    throw MemoryError("model " + log_safe(spec.name) + ": its last layer and its output alone need " +
                      std::to_string(least.gpu_bytes) + " bytes of device memory, " + std::to_string(available) +
                      " are available");
  }
  return below;
}

LoadedModel load_files(ServedModel& model, const ModelSpec& spec, const LoadContext& context,
                       std::unique_ptr<Model>* draft) {
  const std::unique_ptr<Checkpoint> checkpoint = open_files(spec, context);
  const ModelConfig config = read_model_config(*checkpoint);
  model.tokenizer = load_tokenizer(*checkpoint);
  const DraftFiles draft_files(spec, *model.tokenizer);
  model.defaults = read_generation_defaults(*checkpoint);
  model.fingerprint = fingerprint(*checkpoint, context);

  ModelOptions options;
  options.max_batch_tokens = context.engine_options.max_batch_tokens;
  options.max_logit_rows = context.engine_options.max_logit_rows;
  options.max_adapters = context.engine_options.max_adapters;
  options.yes_token = word_id(*model.tokenizer, "yes");
  options.no_token = word_id(*model.tokenizer, "no");
  if (context.progress) {
    options.progress = [&](std::size_t done, std::size_t total) { context.progress(spec.name, done, total); };
  }
  if (context.host) options.host_layers = host_layers_of(*checkpoint, config, spec, context);
  if (options.host_layers > 0) {
    options.host = &context.host();
    spdlog::info("model {}: the first {} of its {} layers stay on the CPU", log_safe(spec.name), options.host_layers,
                 config.num_layers);
  }
  if (!is_encoder(*checkpoint, config)) {
    check_kv_backends(context.engine_options.kv_dtype, log_safe(spec.name), *context.backend, options.host);
  }
  LoadedModel loaded = load_model(*checkpoint, config, *context.backend, options);
  *draft = draft_files.load(context);
  if (loaded.encoder) {
    set_encoder(model, *loaded.encoder, *checkpoint);
    return loaded;
  }
  if (spec.chat_template_file.empty()) {
    set_template(model, load_chat_template(*checkpoint, *model.tokenizer), spec);
  } else {
    const SpecialTokens& special = model.tokenizer->special();
    set_template(
        model,
        parse_chat_template(read_template_file(spec.chat_template_file), spec.chat_template_file,
                            special_text(*model.tokenizer, special.bos), special_text(*model.tokenizer, special.eos)),
        spec);
  }
  add_stop_ids(model, model.tokenizer->special().stop);
  add_stop_ids(model, {model.tokenizer->special().eos});
  add_stop_ids(model, config.eos_token_ids);
  return loaded;
}

const char* kind_word(ModelKind kind) {
  if (kind == ModelKind::generator) return "decoder";
  return kind == ModelKind::embedder ? "encoder" : "reranker";
}

}  // namespace

PreparedModel prepare_model(const ModelSpec& spec, const LoadContext& context) {
  PreparedModel prepared;
  prepared.served = std::make_unique<ServedModel>();
  ServedModel& model = *prepared.served;
  model.name = spec.name;
  model.created_unix_s = static_cast<std::int64_t>(std::time(nullptr));
  model.engine = &context.engine;
  const bool sim = spec.simulated();
  prepared.weights =
      sim ? load_sim(model, spec, context, &prepared.draft) : load_files(model, spec, context, &prepared.draft);
  if (model.is_encoder && !spec.draft_path.empty()) {
    throw ConfigError("model " + log_safe(spec.name) +
                      ": draft_model: it generates no text, so nothing can be guessed");
  }
  if (!model.is_encoder) model.grammars = std::make_unique<GrammarCache>(*model.tokenizer);
  prepared.backend = sim ? &context.sim_backend : context.backend;
  prepared.context_length = spec.context_length;
  return prepared;
}

std::unique_ptr<ServedModel> place_model(PreparedModel prepared, const LoadContext& context) {
  ServedModel& model = *prepared.served;
  LoadedModel& weights = prepared.weights;
  if (weights.encoder) {
    model.handle = context.engine.add_encoder(std::move(weights.encoder), *prepared.backend, context.max_queued_inputs);
  } else {
    EngineOptions options = context.engine_options;
    if (prepared.context_length > 0) options.context_length = prepared.context_length;
    // A limit given for all models does not stretch one whose weights allow less.
    const std::int64_t most = weights.decoder->info().max_context;
    if (prepared.context_length == 0 && options.context_length > most && most > 0) options.context_length = most;
    model.handle =
        context.engine.add_decoder(std::move(weights.decoder), *prepared.backend, options, std::move(prepared.draft));
  }
  model.info = context.engine.info(model.handle);
  model.context_length = context.engine.context_length(model.handle);
  return std::move(prepared.served);
}

std::unique_ptr<ServedModel> load_served_model(const ModelSpec& spec, const LoadContext& context) {
  return place_model(prepare_model(spec, context), context);
}

void serve_adapter(ModelTable& models, const ServedModel& base, const std::string& name, const AdapterFiles& files) {
  if (base.kind != ModelKind::generator)
    throw ConfigError("adapter " + log_safe(name) + ": the model '" + base.name + "' does not generate text");
  if (models.find(name) != nullptr || models.find_adapter(name)) {
    throw ConfigError("adapter " + log_safe(name) + ": a model or adapter of this name is served already");
  }
  const LoraAdapter adapter = read_lora_adapter(files);
  ServedAdapter served{name, &base, base.engine->load_adapter(base.handle, adapter),
                       static_cast<std::int64_t>(std::time(nullptr))};
  if (!models.add_adapter(served)) {
    base.engine->unload_adapter(base.handle, served.id);
    throw ConfigError("adapter " + log_safe(name) + ": a model or adapter of this name is served already");
  }
  spdlog::info("adapter {} on {}: {} layers", log_safe(name), log_safe(base.name), adapter.pairs.size());
}

void log_served_model(const ServedModel& model) {
  const ModelInfo& info = model.info;
  spdlog::info("model {}: {} {}, {:.1f} M parameters, {}, {} ({} resident), {} {} tokens, {}", log_safe(model.name),
               log_safe(info.family), kind_word(model.kind), static_cast<double>(info.parameters) / 1e6,
               log_safe(info.quantization), megabytes(info.weight_bytes), megabytes(info.resident_bytes),
               model.is_encoder ? "inputs up to" : "context", model.context_length,
               model.is_encoder ? "no KV cache" : "KV cache " + megabytes(model.engine->kv_bytes(model.handle)));
  if (model.reasoning_format != nullptr || model.tool_format != nullptr) {
    spdlog::info("model {}: tool calls {}, reasoning {}", log_safe(model.name),
                 model.tool_format != nullptr ? model.tool_format->name : "none",
                 model.reasoning_format != nullptr ? model.reasoning_format->name : "none");
  }
  if (!model.is_encoder && model.chat_template == nullptr) {
    spdlog::warn("model {} has no chat template: /v1/chat/completions will refuse it", log_safe(model.name));
  }
}

}  // namespace inferd
