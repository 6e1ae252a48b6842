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

Settings load_settings(const ServeFlags& flags, const Environment& environment) {
  Settings settings = default_settings();
  if (!flags.config_file.empty()) apply_yaml_file(settings, flags.config_file);

  for (const SettingKey& key : setting_keys()) {
    const std::string name = variable_name(key.name);
    if (const auto value = environment(name)) set_value(settings, key, *value, name);
  }
  if (const auto models = environment("INFERD_MODEL")) {
    settings.models.clear();
    for (std::size_t begin = 0; begin <= models->size();) {
      const std::size_t end = std::min(models->find(';', begin), models->size());
      if (end > begin) {
        settings.models.push_back(parse_model_argument(models->substr(begin, end - begin), "INFERD_MODEL"));
      }
      begin = end + 1;
    }
  }

  if (const auto adapters = environment("INFERD_ADAPTER")) {
    settings.adapters.clear();
    for (std::size_t begin = 0; begin <= adapters->size();) {
      const std::size_t end = std::min(adapters->find(';', begin), adapters->size());
      if (end > begin) {
        settings.adapters.push_back(parse_adapter_argument(adapters->substr(begin, end - begin), "INFERD_ADAPTER"));
      }
      begin = end + 1;
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
  finish_settings(settings);
  return settings;
}

std::vector<std::string> unknown_variables() {
  std::vector<std::string> unknown;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("INFERD_")) continue;
    const std::string name(text.substr(0, text.find('=')));
    bool known = name == "INFERD_MODEL" || name == "INFERD_ADAPTER";
    for (const SettingKey& key : setting_keys()) known = known || name == variable_name(key.name);
    if (!known) unknown.push_back(name);
  }
  return unknown;
}

}  // namespace inferd
