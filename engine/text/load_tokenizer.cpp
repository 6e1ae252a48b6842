// load_tokenizer: picks the file that describes the tokenizer, and collects the ids with a role.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/errors.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_fields.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/tokenizer_loaders.h"

namespace inferd {
namespace {

/// "bos_token": "<s>" or {"content": "<s>", …}
std::optional<std::string> token_text(const TokenizerFields& fields, std::string_view key) {
  const Json* value = fields.find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) return fields.object(key)->string("content");
  return fields.string(key);
}

/// Ids by the roles that tokenizer_config.json or special_tokens_map.json name.
void read_roles(const TokenizerFields& fields, TokenizerParts* parts) {
  const std::pair<std::string_view, TokenId*> roles[] = {
      {"bos_token", &parts->special.bos},  {"eos_token", &parts->special.eos}, {"unk_token", &parts->special.unk},
      {"pad_token", &parts->special.pad},  {"cls_token", &parts->special.cls}, {"sep_token", &parts->special.sep},
      {"mask_token", &parts->special.mask}};
  for (const auto& [key, id] : roles) {
    const std::optional<std::string> text = token_text(fields, key);
    if (!text || text->empty()) continue;
    const auto added =
        std::find_if(parts->added.begin(), parts->added.end(), [&](const AddedToken& t) { return t.content == *text; });
    if (added != parts->added.end()) {
      *id = added->id;
      continue;
    }
    const auto& pieces = parts->vocabulary.pieces;
    const auto piece = std::find(pieces.begin(), pieces.end(), *text);
    if (piece != pieces.end()) *id = static_cast<TokenId>(piece - pieces.begin());
  }
}

/// eos_token_id of config.json and generation_config.json: an id or a list of ids.
void read_stop_ids(const Checkpoint& checkpoint, std::string_view file, SpecialTokens* special) {
  const std::optional<Json> json = read_tokenizer_json(checkpoint, file);
  if (!json) return;
  const std::string path = checkpoint.path() + "/" + std::string(file);
  const TokenizerFields fields(*json, path, "");
  const Json* value = fields.find("eos_token_id");
  if (value == nullptr) return;
  const auto add = [&](const Json& id) { special->stop.push_back(checked_id(id, path, "eos_token_id")); };
  if (!value->is_array()) {
    add(*value);
    return;
  }
  if (value->size() > 256) fields.fail("eos_token_id", "at most 256 ids", std::to_string(value->size()));
  for (const Json& id : *value) add(id);
}

/// Llama's and Gemma's tokenizer classes set the prefix themselves when the configuration has these keys.
void apply_class_flags(const TokenizerFields& config, TokenizerParts* parts) {
  const std::string type = config.string("tokenizer_class").value_or("");
  if (!type.starts_with("Llama") && !type.starts_with("Gemma") && !type.starts_with("CodeLlama")) return;
  if (config.find("add_bos_token") != nullptr) {
    parts->prefix.clear();
    if (config.boolean("add_bos_token", false) && parts->special.bos >= 0) parts->prefix = {parts->special.bos};
  }
  if (config.find("add_eos_token") != nullptr) {
    parts->suffix.clear();
    if (config.boolean("add_eos_token", false) && parts->special.eos >= 0) parts->suffix = {parts->special.eos};
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_folder_tokenizer(const Checkpoint& checkpoint) {
  const std::string config_file = checkpoint.path() + "/tokenizer_config.json";
  const std::optional<Json> config_json = read_tokenizer_json(checkpoint, "tokenizer_config.json");
  std::optional<TokenizerFields> config;
  if (config_json) config.emplace(*config_json, config_file, "");

  std::optional<TokenizerParts> parts;
  const std::optional<Json> json = read_tokenizer_json(checkpoint, "tokenizer.json");
  if (json) {
    parts = read_tokenizer_parts(*json, checkpoint.path() + "/tokenizer.json", config ? &*config : nullptr);
  } else {
    parts = read_vocabulary_files(checkpoint);
  }
  if (!parts) {
    throw CheckpointError(
        checkpoint.path(), "tokenizer",
        "tokenizer.json, tokenizer.model, ice_text.model, qwen.tiktoken, vocab.json with merges.txt, or vocab.txt",
        "none of them");
  }
  if (const auto map = read_tokenizer_json(checkpoint, "special_tokens_map.json")) {
    read_roles(TokenizerFields(*map, checkpoint.path() + "/special_tokens_map.json", ""), &*parts);
  }
  if (config) read_roles(*config, &*parts);
  if (config && json) apply_class_flags(*config, &*parts);
  read_stop_ids(checkpoint, "config.json", &parts->special);
  read_stop_ids(checkpoint, "generation_config.json", &parts->special);
  if (parts->special.eos < 0 && !parts->special.stop.empty()) parts->special.eos = parts->special.stop.front();
  return make_tokenizer(*std::move(parts));
}

std::unique_ptr<Tokenizer> load_tokenizer(const Checkpoint& checkpoint) {
  if (checkpoint.format() == CheckpointFormat::gguf) {
    if (checkpoint.metadata() == nullptr)
      throw CheckpointError(checkpoint.path(), "metadata", "tokenizer.ggml keys", "none");
    return load_gguf_tokenizer(*checkpoint.metadata(), checkpoint.path());
  }
  return load_folder_tokenizer(checkpoint);
}

}  // namespace inferd
