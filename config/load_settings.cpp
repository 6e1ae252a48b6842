// Where settings come together: flag beats variable beats file beats default.
#include "config/load_settings.h"

#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "base/errors.h"
#include "config/yaml_file.h"

namespace inferd {

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

std::string variable_name(std::string_view key) {
  std::string name = "INFERD_";
  for (const char c : key) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

namespace {

/// What semicolons part, without empty parts.
std::vector<std::string> parts_of(const std::optional<std::string>& variable) {
  const std::string text = variable.value_or("");
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(';', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Puts what `texts` say, if anything, in place of *out.
template <typename Part>
void replace_by(std::vector<Part>* out, const std::vector<std::string>& texts,
                Part (*parse)(const std::string& text, const std::string& where), const std::string& where) {
  if (!texts.empty()) out->clear();
  for (const std::string& text : texts) out->push_back(parse(text, where));
}

}  // namespace

Settings load_settings(const ServeFlags& flags, const Environment& environment) {
  Settings settings = default_settings();
  if (!flags.config_file.empty()) apply_yaml_file(settings, flags.config_file);

  for (const SettingKey& key : setting_keys()) {
    const std::string name = variable_name(key.name);
    if (const auto value = environment(name)) set_value(settings, key, *value, name);
  }
  replace_by(&settings.models, parts_of(environment("INFERD_MODEL")), parse_model_argument, "INFERD_MODEL");
  replace_by(&settings.adapters, parts_of(environment("INFERD_ADAPTER")), parse_adapter_argument, "INFERD_ADAPTER");
  replace_by(&settings.drafts, parts_of(environment("INFERD_DRAFT_MODEL")), parse_draft_argument, "INFERD_DRAFT_MODEL");

  for (const auto& [name, text] : flags.values) set_value(settings, *find_setting(name), text, flag_name(name));
  replace_by(&settings.models, flags.models, parse_model_argument, "--model");
  replace_by(&settings.adapters, flags.adapters, parse_adapter_argument, "--adapter");
  replace_by(&settings.drafts, flags.drafts, parse_draft_argument, "--draft-model");
  finish_settings(settings);
  return settings;
}

std::vector<std::string> unknown_variables() {
  std::vector<std::string> unknown;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("INFERD_")) continue;
    const std::string name(text.substr(0, text.find('=')));
    bool known = name == "INFERD_MODEL" || name == "INFERD_ADAPTER" || name == "INFERD_DRAFT_MODEL";
    for (const SettingKey& key : setting_keys()) known = known || name == variable_name(key.name);
    if (!known) unknown.push_back(name);
  }
  return unknown;
}

}  // namespace inferd
