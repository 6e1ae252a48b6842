// Where a checkpoint keeps its chat template: GGUF metadata, template files, tokenizer_config.json.
#include <map>
#include <optional>

#include "base/errors.h"
#include "engine/text/chat_template_parts.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/published_formats.h"

namespace inferd {
namespace {

constexpr std::string_view kDefault = "default";
constexpr std::string_view kToolUse = "tool_use";

/// Template sources by name.
using NamedSources = std::map<std::string, TemplateSource, std::less<>>;

NamedSources sources_of_gguf(const GgufMetadata& metadata, const std::string& path) {
  NamedSources sources;
  for (const std::string_view name : {kDefault, kToolUse}) {
    std::string key = "tokenizer.chat_template";
    if (name != kDefault) key += "." + std::string(name);
    if (auto text = metadata.string(key)) sources[std::string(name)] = {std::move(*text), path + ": " + key};
  }
  return sources;
}

/// The value of "chat_template": a string, or a list of {"name", "template"}.
void add_json_sources(const Json& value, const std::string& file, NamedSources* sources) {
  if (value.is_null()) return;
  if (value.is_string()) {
    sources->try_emplace(std::string(kDefault), TemplateSource{value.get<std::string>(), file});
    return;
  }
  if (!value.is_array()) throw CheckpointError(file, "chat_template", "a string or a list", value.type_name());
  for (const Json& entry : value) {
    const bool usable = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                        entry.contains("template") && entry["template"].is_string();
    if (!usable)
      throw CheckpointError(file, "chat_template", "objects with the strings name and template",
                            dump_json(entry).substr(0, 80));
    sources->try_emplace(entry["name"].get<std::string>(), TemplateSource{entry["template"].get<std::string>(), file});
  }
}

/// Files go before tokenizer_config.json, which older models used.
NamedSources sources_of_folder(const Checkpoint& checkpoint) {
  NamedSources sources;
  const auto add_file = [&](std::string_view name, const std::string& file) {
    if (auto text = checkpoint.read_file(file, jinja::kMaxTemplateBytes)) {
      sources.try_emplace(std::string(name), TemplateSource{std::move(*text), checkpoint.path() + "/" + file});
    }
  };
  add_file(kDefault, "chat_template.jinja");
  add_file(kToolUse, "additional_chat_templates/tool_use.jinja");
  for (const char* const file : {"chat_template.json", "tokenizer_config.json"}) {
    const auto json = checkpoint.json(file);
    if (!json || !json->is_object()) continue;
    const auto found = json->find("chat_template");
    if (found != json->end()) add_json_sources(*found, checkpoint.path() + "/" + file, &sources);
  }
  return sources;
}

std::vector<jinja::Variable> special_token_variables(const Tokenizer& tokenizer) {
  const SpecialTokens& special = tokenizer.special();
  std::vector<jinja::Variable> variables;
  // bos and eos always exist as texts: templates add them to others without asking.
  variables.push_back({"bos_token", special.bos >= 0 ? tokenizer.token_bytes(special.bos) : "", true});
  variables.push_back({"eos_token", special.eos >= 0 ? tokenizer.token_bytes(special.eos) : "", true});
  const std::pair<const char*, TokenId> others[] = {{"unk_token", special.unk},
                                                    {"pad_token", special.pad},
                                                    {"cls_token", special.cls},
                                                    {"sep_token", special.sep},
                                                    {"mask_token", special.mask}};
  for (const auto& [name, id] : others) {
    if (id >= 0) variables.push_back({name, tokenizer.token_bytes(id), true});
  }
  return variables;
}

}  // namespace

std::unique_ptr<ChatTemplate> load_chat_template(const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  const GgufMetadata* metadata = checkpoint.metadata();
  NamedSources sources =
      metadata != nullptr ? sources_of_gguf(*metadata, checkpoint.path()) : sources_of_folder(checkpoint);
  if (sources.empty()) {
    auto format = published_format(checkpoint);
    if (!format) return nullptr;
    sources.emplace(kDefault, *std::move(format));
  }
  const auto tool_use = sources.find(kToolUse);
  auto plain = sources.find(kDefault);
  if (plain == sources.end()) plain = sources.begin();
  const TemplateSource* with_tools = tool_use != sources.end() && tool_use != plain ? &tool_use->second : nullptr;
  return make_chat_template(plain->second, with_tools, special_token_variables(tokenizer));
}

}  // namespace inferd
