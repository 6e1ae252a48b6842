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
std::vector<std::string> parts_of(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(';', begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

}  // namespace

Settings load_settings(const ServeFlags& flags, const Environment& environment) {
  Settings settings = default_settings();
  if (!flags.config_file.empty()) apply_yaml_file(settings, flags.config_file);

  for (const SettingKey& key : setting_keys()) {
    const std::string name = variable_name(key.name);
    if (const auto value = environment(name)) set_value(settings, key, *value, name);
  }
  if (const auto models = environment("INFERD_MODEL")) {
    settings.models.clear();
    for (const std::string& model : parts_of(*models)) {
      settings.models.push_back(parse_model_argument(model, "INFERD_MODEL"));
    }
  }

  if (const auto adapters = environment("INFERD_ADAPTER")) {
    settings.adapters.clear();
    for (const std::string& adapter : parts_of(*adapters)) {
      settings.adapters.push_back(parse_adapter_argument(adapter, "INFERD_ADAPTER"));
    }
  }

  if (const auto drafts = environment("INFERD_DRAFT_MODEL")) {
    for (const std::string& draft : parts_of(*drafts)) {
      settings.drafts.push_back(parse_draft_argument(draft, "INFERD_DRAFT_MODEL"));
    }
  }

  for (const auto& [name, text] : flags.values) set_value(settings, *find_setting(name), text, "--" + name);
  if (!flags.models.empty()) {
    settings.models.clear();
    for (const std::string& model : flags.models) settings.models.push_back(parse_model_argument(model, "--model"));
  }
  if (!flags.adapters.empty()) {
    settings.adapters.clear();
    for (const std::string& one : flags.adapters) {
      settings.adapters.push_back(parse_adapter_argument(one, "--adapter"));
    }
  }
  if (!flags.drafts.empty()) {
    settings.drafts.clear();
    for (const std::string& draft : flags.drafts) {
      settings.drafts.push_back(parse_draft_argument(draft, "--draft-model"));
    }
  }
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
