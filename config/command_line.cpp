// The flags of `inferd serve`, made from the table of keys.
#include "config/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <deque>

#include "config/settings.h"

namespace inferd {

std::string flag_name(std::string_view key) {
  std::string flag = "--" + std::string(key);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

namespace {

std::string help_text(const SettingKey& key) {
  std::string text(key.meaning);
  text += " (" + allowed_text(key);
  if (!key.default_text.empty()) text += "; default " + std::string(key.default_text);
  return text + ")";
}

}  // namespace

ParsedFlags parse_serve_flags(std::span<const std::string> args) {
  ServeFlags flags;
  CLI::App app("inferd serve: loads the models and serves them over HTTP", "inferd serve");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("--config", flags.config_file, "YAML file of settings; flags and INFERD_ variables override it");
  app.add_option("--model", flags.models, "[NAME=]PATH of a GGUF file or a Hugging Face folder; repeatable")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--adapter", flags.adapters, "NAME=PATH[:BASE] of a LoRA adapter (a PEFT folder); repeatable")
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--draft-model", flags.drafts,
                 "[NAME=]PATH of a smaller model of the same vocabulary that guesses tokens for the model NAME (or the "
                 "first); repeatable")
      ->take_all()
      ->allow_extra_args(false);
  struct Slot {
    const SettingKey* key;
    std::string text;
    CLI::Option* option;
  };
  std::deque<Slot> slots;  // stable addresses: CLI11 writes into them
  for (const SettingKey& key : setting_keys()) {
    Slot& slot = slots.emplace_back(Slot{&key, {}, nullptr});
    slot.option = key.type == KeyType::boolean ? app.add_flag(flag_name(key.name) + "{true}", slot.text, help_text(key))
                                               : app.add_option(flag_name(key.name), slot.text, help_text(key));
  }
  if (auto early = parse_arguments(app, args)) return {std::nullopt, std::move(*early)};
  for (const Slot& slot : slots) {
    if (slot.option->count() > 0) flags.values.emplace_back(slot.key->name, slot.text);
  }
  return {std::move(flags), {}};
}

}  // namespace inferd
