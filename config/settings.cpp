// Reading one value of one key, and the checks that need several keys.
#include "config/settings.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "base/errors.h"
#include "base/utf8.h"

namespace inferd {
namespace {

std::string shown(const std::string& text) {
  std::string cut = text.size() > 80 ? text.substr(0, 80) + "…" : text;
  for (char& c : cut) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return "'" + replace_invalid_utf8(cut) + "'";
}

[[noreturn]] void bad_value(const std::string& where, const std::string& expected, const std::string& found) {
  throw ConfigError(where + ": expected " + expected + ", found " + shown(found));
}

std::string plain_number(double value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  return std::string(buffer, end);
}

std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> to_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::optional<bool> to_boolean(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "true" || lower == "yes" || lower == "on" || lower == "1") return true;
  if (lower == "false" || lower == "no" || lower == "off" || lower == "0") return false;
  return std::nullopt;
}

bool is_choice(std::string_view choices, std::string_view text) {
  while (!text.empty()) {
    const auto bar = choices.find('|');
    if (choices.substr(0, bar) == text) return true;
    if (bar == std::string_view::npos) return false;
    choices.remove_prefix(bar + 1);
  }
  return false;
}

void check_model_name(const std::string& name, const std::string& what) {
  const auto ok_first = [](unsigned char c) { return std::isalnum(c) != 0; };
  const auto ok = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.' || c == ':' || c == '-' || c == '/';
  };
  if (name.empty() || name.size() > 128 || !ok_first(static_cast<unsigned char>(name[0])) ||
      !std::all_of(name.begin(), name.end(), ok)) {
    throw ConfigError(what +
                      ": expected a name of 1 to 128 letters, digits or _ . : - /, beginning with a letter or "
                      "digit, found " +
                      shown(name));
  }
  if (name == "default") throw ConfigError(what + ": the name 'default' is reserved for the first model");
}

}  // namespace

bool valid_device(std::string_view device) {
  if (device == "auto" || device == "cpu" || device == "cuda") return true;
  if (!device.starts_with("cuda:")) return false;
  const auto index = to_integer(device.substr(5));
  return index && *index >= 0 && *index < 64;
}

bool valid_gpu_layers(std::string_view layers) {
  if (layers == "auto" || layers == "all") return true;
  const auto count = to_integer(layers);
  return count && *count >= 0 && *count <= 100000;
}

std::optional<std::int64_t> size_from_text(std::string_view text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
      {"KB", 1e3},     {"MB", 1e6},        {"GB", 1e9},           {"TB", 1e12},
      {"B", 1.0}};
  double factor = 1;
  for (const auto& [unit, size] : kUnits) {
    if (text.size() > unit.size() && text.ends_with(unit)) {
      factor = size;
      text.remove_suffix(unit.size());
      break;
    }
  }
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  const auto number = to_number(text);
  if (!number || *number < 0 || *number * factor > 9e18) return std::nullopt;
  return static_cast<std::int64_t>(*number * factor);
}

const SettingKey* find_setting(std::string_view name) {
  for (const SettingKey& key : setting_keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string allowed_text(const SettingKey& key) {
  const std::string also = key.auto_allowed ? "auto or " : "";
  const std::string range = " from " + plain_number(key.min) + " to " + plain_number(key.max);
  switch (key.type) {
    case KeyType::text:
      return key.fits == nullptr ? "a text" : std::string(key.choices);
    case KeyType::choice:
      return std::string(key.choices);
    case KeyType::integer:
      return also + "an integer" + range;
    case KeyType::number:
      return also + "a number" + range;
    case KeyType::boolean:
      return "true or false";
    case KeyType::bytes:
      return also + "a size such as 512MiB," + range + " bytes";
    case KeyType::list:
      return "a list";
  }
  return {};
}

void set_list(Settings& settings, const SettingKey& key, std::vector<std::string> items, const std::string& where) {
  if (key.type != KeyType::list) bad_value(where, allowed_text(key), "a list");
  if (items.size() > 1000) bad_value(where, "at most 1000 entries", std::to_string(items.size()));
  for (const std::string& item : items) {
    if (item.empty()) bad_value(where, "no empty entries", item);
    if (key.fits != nullptr && !key.fits(item)) bad_value(where, std::string(key.choices), item);
  }
  settings.*std::get<std::vector<std::string> Settings::*>(key.field) = std::move(items);
}

void set_value(Settings& settings, const SettingKey& key, const std::string& text, const std::string& where) {
  if (text.find('\0') != std::string::npos) bad_value(where, "no NUL bytes", text);
  const auto out_of_range = [&](double value) { return value < key.min || value > key.max; };
  switch (key.type) {
    case KeyType::text:
      if (key.fits != nullptr && !key.fits(text)) bad_value(where, allowed_text(key), text);
      settings.*std::get<std::string Settings::*>(key.field) = text;
      return;
    case KeyType::choice:
      if (!is_choice(key.choices, text)) bad_value(where, allowed_text(key), text);
      settings.*std::get<std::string Settings::*>(key.field) = text;
      return;
    case KeyType::integer:
    case KeyType::bytes: {
      std::int64_t& field = settings.*std::get<std::int64_t Settings::*>(key.field);
      if (key.auto_allowed && text == "auto") {
        field = 0;
        return;
      }
      const auto value = key.type == KeyType::bytes ? size_from_text(text) : to_integer(text);
      if (!value || out_of_range(static_cast<double>(*value))) bad_value(where, allowed_text(key), text);
      field = *value;
      return;
    }
    case KeyType::number: {
      const auto value = to_number(text);
      if (!value || out_of_range(*value)) bad_value(where, allowed_text(key), text);
      settings.*std::get<double Settings::*>(key.field) = *value;
      return;
    }
    case KeyType::boolean: {
      const auto value = to_boolean(text);
      if (!value) bad_value(where, allowed_text(key), text);
      settings.*std::get<bool Settings::*>(key.field) = *value;
      return;
    }
    case KeyType::list: {
      std::vector<std::string> items;
      for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t comma = std::min(text.find(',', begin), text.size());
        const std::size_t first = text.find_first_not_of(' ', begin);
        std::string item = first < comma ? text.substr(first, comma - first) : "";
        while (!item.empty() && item.back() == ' ') item.pop_back();
        items.push_back(std::move(item));
        begin = comma + 1;
      }
      set_list(settings, key, std::move(items), where);
      return;
    }
  }
}

Settings default_settings() {
  Settings settings;
  for (const SettingKey& key : setting_keys()) {
    set_value(settings, key, std::string(key.default_text), "built-in default");
  }
  return settings;
}

std::string default_model_name(const std::string& path) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  if (name.starts_with("sim:")) return "sim";
  if (const auto slash = name.rfind('/'); slash != std::string::npos) name.erase(0, slash + 1);
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  // "-00001-of-00003" of a split set
  constexpr std::size_t kPartLength = 15;
  if (name.size() > kPartLength && name.compare(name.size() - kPartLength, 10, "-00001-of-") == 0 &&
      std::all_of(name.end() - 5, name.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) {
    name.resize(name.size() - kPartLength);
  }
  return name;
}

ModelSettings parse_model_argument(const std::string& text, const std::string& where) {
  ModelSettings model;
  model.where = where;
  const auto equals = text.starts_with("sim:") ? std::string::npos : text.find('=');
  const bool named = equals != std::string::npos && text.find('/') > equals && equals > 0;
  // "org/name=/path": a slash before '=' is a name only if what follows is a path of its own
  const bool slashed = !named && equals != std::string::npos && equals > 0 && text[0] != '/' && text[0] != '.' &&
                       equals + 1 < text.size() && (text[equals + 1] == '/' || text[equals + 1] == '.');
  if (named || slashed) {
    model.name = text.substr(0, equals);
    model.path = text.substr(equals + 1);
  } else {
    model.path = text;
  }
  if (model.path.empty()) bad_value(where, "[NAME=]PATH", text);
  return model;
}

DraftSettings parse_draft_argument(const std::string& text, const std::string& where) {
  const ModelSettings named = parse_model_argument(text, where);
  return {where, named.name, named.path};
}

AdapterSettings parse_adapter_argument(const std::string& text, const std::string& where) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    bad_value(where, "NAME=PATH[:BASE]", text);
  }
  return {where, text.substr(0, equals), text.substr(equals + 1), ""};
}

bool is_loopback_host(std::string_view host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || host.starts_with("127.");
}

namespace {

[[noreturn]] void name_used_twice(const std::string& where, const std::string& name) {
  throw ConfigError(where + ": the name " + shown(name) + " is used twice");
}

/// Finds the base ("PATH:BASE" if that names a model, else the first model) and checks the name.
void finish_adapter(const Settings& settings, AdapterSettings& adapter, std::set<std::string>* names) {
  const auto served = [&](const std::string& name) {
    return std::any_of(settings.models.begin(), settings.models.end(),
                       [&](const auto& model) { return model.name == name; });
  };
  const auto colon = adapter.path.rfind(':');
  if (adapter.base.empty() && colon != std::string::npos && served(adapter.path.substr(colon + 1))) {
    adapter.base = adapter.path.substr(colon + 1);
    adapter.path.resize(colon);
  }
  if (adapter.base.empty() && !settings.models.empty()) adapter.base = settings.models.front().name;
  check_model_name(adapter.name, adapter.where);
  if (!names->insert(adapter.name).second) name_used_twice(adapter.where, adapter.name);
  if (!served(adapter.base)) {
    bad_value(adapter.where + ": " + adapter.name + ": base", "the name of a served model", adapter.base);
  }
}

/// Gives each --draft-model to its model, and checks that it will be used.
void finish_drafts(Settings& settings) {
  std::set<std::string> given;
  for (const DraftSettings& draft : settings.drafts) {
    const std::string& name = draft.model.empty() && !settings.models.empty() ? settings.models[0].name : draft.model;
    const auto model = std::find_if(settings.models.begin(), settings.models.end(),
                                    [&](const ModelSettings& one) { return one.name == name; });
    if (model == settings.models.end()) {
      bad_value(draft.where, "the name of a served model before '='", name);
    }
    if (!given.insert(name).second) throw ConfigError(draft.where + ": the model " + shown(name) + " is given two");
    model->draft_model = draft.path;
  }
  settings.drafts.clear();
  const auto found = std::find_if(settings.models.begin(), settings.models.end(),
                                  [](const ModelSettings& model) { return !model.draft_model.empty(); });
  const bool any = found != settings.models.end();
  if (any && settings.speculative != "auto" && settings.speculative != "draft") {
    throw ConfigError("model " + found->name + ": draft_model: needs speculative: auto or draft, found " +
                      shown(settings.speculative));
  }
  if (!any && !settings.models.empty() && settings.speculative == "draft") {
    throw ConfigError("speculative: draft needs a model with a draft_model, and none has one");
  }
}

}  // namespace

void finish_settings(Settings& settings) {
  if (!settings.batch_invariant && settings.activations == "f32") {
    throw ConfigError("batch_invariant: false and activations: f32 exclude one another: cuBLASLt multiplies 16 bits");
  }
  std::set<std::string> names;
  for (ModelSettings& model : settings.models) {
    if (model.name.empty()) model.name = default_model_name(model.path);
    check_model_name(model.name, model.where + ": " + shown(model.path));
    if (!names.insert(model.name).second) name_used_twice(model.where, model.name);
  }
  for (const ModelSettings& model : settings.models) {
    for (const std::string& alias : model.aliases) {
      check_model_name(alias, model.where + ": aliases");
      if (!names.insert(alias).second) name_used_twice(model.where + ": aliases", alias);
    }
  }
  for (const std::string& alias : settings.aliases) {
    const auto equals = alias.find('=');
    const std::string name = alias.substr(0, equals), target = alias.substr(equals + 1);
    check_model_name(name, "aliases");
    if (!names.insert(name).second) name_used_twice("aliases", name);
    const auto served = [&](const ModelSettings& model) { return model.name == target; };
    if (std::none_of(settings.models.begin(), settings.models.end(), served)) {
      throw ConfigError("aliases: " + shown(name) + " stands for " + shown(target) + ", which is not a served model");
    }
  }
  for (AdapterSettings& adapter : settings.adapters) finish_adapter(settings, adapter, &names);
  finish_drafts(settings);
  if (!settings.chat_template.empty() && !settings.models.empty() && settings.models[0].chat_template.empty()) {
    settings.models[0].chat_template = settings.chat_template;
  }
  if (!is_loopback_host(settings.host) && settings.api_key_file.empty() && !settings.allow_unauthenticated) {
    throw ConfigError("host: " + shown(settings.host) +
                      " is open to other machines: set api_key_file, or allow_unauthenticated: true");
  }
}

}  // namespace inferd
