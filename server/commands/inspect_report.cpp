// Reading a checkpoint or an adapter for `inferd inspect`.
#include "server/commands/inspect_report.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/errors.h"
#include "base/log.h"
#include "engine/adapters/lora_adapter.h"
#include "engine/models/decoder_encoder.h"
#include "engine/models/families.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"
#include "engine/weights/sentence_config.h"
#include "engine/weights/summary.h"

namespace inferd {
namespace {

Json tensor_json(const StoredTensor& tensor) {
  Json out = Json::object();
  out["name"] = tensor.name;
  out["type"] = dtype_info(tensor.dtype).name;
  out["shape"] = tensor.shape;
  out["bytes"] = tensor.bytes;
  return out;
}

/// Runs one part of the report; what it throws becomes a line under "problems".
template <typename Part>
void attempt(Json& report, const Part& part) {
  try {
    part();
  } catch (const std::exception& error) {
    report["problems"].push_back(error.what());
  }
}

const Family* family_of(const Checkpoint& checkpoint, const ModelConfig& config) {
  const bool gguf = checkpoint.format() == CheckpointFormat::gguf;
  for (const Family& family : families()) {
    const std::string_view name = gguf ? family.gguf_arch : family.model_type;
    if (!name.empty() && name == config.model_type) return &family;
  }
  return nullptr;
}

std::string role_of(const Checkpoint& checkpoint, ModelConfig config, const Family& family) {
  config.family = family.name;
  if (family.load == load_bert) return is_sequence_classifier(checkpoint) ? "reranking" : "embeddings";
  switch (read_decoder_role(checkpoint, config).kind) {
    case DecoderRole::Kind::embedder:
      return "embeddings";
    case DecoderRole::Kind::reranker:
      return "reranking";
    case DecoderRole::Kind::generator:
      break;
  }
  return "text generation";
}

void read_config(const Checkpoint& checkpoint, Json& report) {
  const ModelConfig config = read_model_config(checkpoint);
  report["name"] = config.name;
  report["model_type"] = config.model_type;
  const Family* family = family_of(checkpoint, config);
  report["family"] = family != nullptr ? Json(family->name) : Json();
  if (family == nullptr) report["problems"].push_back("model_type " + config.model_type + " is not supported");
  Json sizes = Json::object();
  sizes["vocab_size"] = config.vocab_size;
  sizes["hidden_size"] = config.hidden_size;
  sizes["intermediate_size"] = config.intermediate_size;
  sizes["num_layers"] = config.num_layers;
  sizes["num_heads"] = config.num_heads;
  sizes["num_kv_heads"] = config.num_kv_heads;
  sizes["head_dim"] = config.head_dim;
  report["sizes"] = std::move(sizes);
  report["context_length"] = config.max_position_embeddings;
  if (family != nullptr) report["purpose"] = role_of(checkpoint, config, *family);
}

/// What config.json says about the way the weights were quantised.
void read_quantization(const Checkpoint& checkpoint, Json& report) {
  report["quantization"] = quantization_name(checkpoint);
  const auto json = checkpoint.json("config.json");
  if (json && json->is_object() && json->contains("quantization_config")) {
    report["quantization_config"] = (*json)["quantization_config"];
  }
}

std::string tokenizer_kind(const Checkpoint& checkpoint) {
  if (const GgufMetadata* metadata = checkpoint.metadata()) {
    const std::string model = metadata->string("tokenizer.ggml.model").value_or("none");
    const auto pre = metadata->string("tokenizer.ggml.pre");
    return "GGUF " + model + (pre ? ", " + *pre : "");
  }
  const auto json = checkpoint.json("tokenizer.json");
  if (json && json->is_object() && json->contains("model") && (*json)["model"].is_object()) {
    const Json& model = (*json)["model"];
    return "tokenizer.json, " + (model.contains("type") && model["type"].is_string() ? model["type"].get<std::string>()
                                                                                     : std::string("untyped"));
  }
  for (const char* file : {"tokenizer.model", "ice_text.model", "qwen.tiktoken", "vocab.json", "vocab.txt"}) {
    if (std::filesystem::exists(std::filesystem::path(checkpoint.path()) / file)) return file;
  }
  return "none";
}

Json token_json(const Tokenizer& tokenizer, TokenId id) {
  return Json{{"id", id}, {"text", tokenizer.first_token_bytes(id)}};
}

void read_text_side(const Checkpoint& checkpoint, Json& report) {
  Json out = Json::object();
  out["kind"] = tokenizer_kind(checkpoint);
  report["tokenizer"] = out;
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(checkpoint);
  out["vocab_size"] = tokenizer->vocab_size();
  const SpecialTokens& special = tokenizer->special();
  Json roles = Json::object();
  const std::pair<const char*, TokenId> named[] = {{"bos", special.bos},  {"eos", special.eos}, {"unk", special.unk},
                                                   {"pad", special.pad},  {"cls", special.cls}, {"sep", special.sep},
                                                   {"mask", special.mask}};
  for (const auto& [name, id] : named) {
    if (id >= 0) roles[name] = token_json(*tokenizer, id);
  }
  out["special"] = std::move(roles);
  out["stop"] = Json::array();
  std::vector<TokenId> stops = special.stop;
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  for (const TokenId id : stops) out["stop"].push_back(token_json(*tokenizer, id));
  report["tokenizer"] = std::move(out);
  const auto chat_template = load_chat_template(checkpoint, *tokenizer);
  if (chat_template == nullptr) return;
  const std::string& source = chat_template->source();
  report["chat_template"] = Json{{"bytes", source.size()},
                                 {"tools", source.find("tools") != std::string::npos},
                                 {"thinking", source.find("</think>") != std::string::npos},
                                 {"source", source}};
}

void read_sentence_side(const Checkpoint& checkpoint, Json& report) {
  if (report.value("purpose", "") != "embeddings") return;
  const SentenceConfig sentence = read_sentence_config(checkpoint);
  if (!sentence.prompts.empty()) report["prompts"] = sentence.prompts;
  if (sentence.matryoshka) report["matryoshka_dimensions"] = sentence.matryoshka_dimensions;
}

Json inspect_model(const std::string& path) {
  const std::unique_ptr<Checkpoint> checkpoint = Checkpoint::open(path);
  Json report = Json::object();
  report["kind"] = "model";
  report["path"] = path;
  report["format"] = checkpoint->format() == CheckpointFormat::gguf ? "GGUF" : "Hugging Face folder, safetensors";
  report["problems"] = Json::array();
  attempt(report, [&] { read_config(*checkpoint, report); });
  attempt(report, [&] { read_quantization(*checkpoint, report); });
  report["parameters"] = parameter_count(*checkpoint);
  report["tensor_bytes"] = checkpoint->tensor_bytes();
  attempt(report, [&] { read_text_side(*checkpoint, report); });
  attempt(report, [&] { read_sentence_side(*checkpoint, report); });
  report["tensors"] = Json::array();
  for (const StoredTensor& tensor : checkpoint->tensors()) report["tensors"].push_back(tensor_json(tensor));
  return report;
}

Json inspect_adapter(const std::string& path) {
  const LoraAdapter adapter = read_lora_adapter(open_adapter(path));
  Json report = Json::object();
  report["kind"] = "LoRA adapter";
  report["path"] = path;
  report["problems"] = Json::array();
  std::int64_t parameters = 0, least = kMaxAdapterRank, most = 0;
  report["layers"] = Json::array();
  for (const LoraPair& pair : adapter.pairs) {
    parameters += pair.a.elements() + pair.b.elements();
    least = std::min(least, pair.rank());
    most = std::max(most, pair.rank());
    report["layers"].push_back(Json{{"module", pair.module},
                                    {"rank", pair.rank()},
                                    {"scale", pair.scale},
                                    {"inputs", pair.a.shape[1]},
                                    {"outputs", pair.b.shape[0]},
                                    {"type", dtype_info(pair.a.dtype).name}});
  }
  report["parameters"] = parameters;
  report["least_rank"] = least;
  report["greatest_rank"] = most;
  return report;
}

}  // namespace

Json inspect_path(const std::string& path) {
  std::error_code error;
  if (std::filesystem::exists(std::filesystem::path(path) / "adapter_config.json", error)) return inspect_adapter(path);
  return inspect_model(path);
}

}  // namespace inferd
