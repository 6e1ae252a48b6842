// Settings: every configuration key, its value, and the table that describes the keys.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace inferd {

/// One entry of `models`, or one --model.
struct ModelSettings {
  std::string where;                 // what said so, for messages: "--model", "inferd.yaml:7: models"
  std::string name;                  // empty until load_settings derives it from the path
  std::string path;                  // a GGUF file, a Hugging Face folder, or "sim:…"
  std::string device;                // empty: the global `device`
  std::string gpu_layers;            // empty: the global `gpu_layers`
  std::string quantization;          // empty: the global `quantization`
  std::string chat_template;         // a Jinja file; empty: the model's own
  std::string reasoning_parser;      // empty: the global `reasoning_parser`
  std::string tool_parser;           // empty: the global `tool_parser`
  std::string draft_model;           // a smaller model that guesses for it, named like `path`; empty: none
  std::int64_t context_length = 0;   // 0: the global `context_length`
  std::int64_t tensor_parallel = 0;  // 0: the global `tensor_parallel`
  std::vector<std::string> aliases;
};

/// One --draft-model.
struct DraftSettings {
  std::string where;  // as of a model
  std::string model;  // name of a served model; empty: the first
  std::string path;
};

/// One entry of `adapters`, or one --adapter.
struct AdapterSettings {
  std::string where;  // as of a model
  std::string name;
  std::string path;  // a PEFT folder
  std::string base;  // name of a served model; empty: the first
};

/// Values of all keys. The meaning, unit and default of each stand in the table (settings_table.cpp). 0 stands for
/// "auto" where a key allows that word.
struct Settings {
  std::vector<ModelSettings> models;
  std::vector<AdapterSettings> adapters;
  std::vector<DraftSettings> drafts;  // until finish_settings has given each to its model
  std::string host, device, gpu_layers, isa, activations, kv_cache_type, speculative, log_level, api_key_file,
      chat_template, reasoning_parser, tool_parser;
  std::string adapters_dir, quantization, cache_dir;
  std::int64_t port = 0, threads = 0, context_length = 0, max_batch_tokens = 0, max_concurrent_requests = 0;
  std::int64_t max_queued_requests = 0, max_queued_inputs = 0, max_connections = 0, kv_cache_memory = 0;
  std::int64_t speculative_tokens = 0, cache_limit = 0, tensor_parallel = 0;
  std::int64_t default_max_tokens = 0, max_body_bytes = 0, max_header_bytes = 0, max_messages = 0, max_tools = 0,
               max_adapters = 0;
  double gpu_memory_fraction = 0;
  double queue_wait_s = 0, request_deadline_s = 0, drain_s = 0, stuck_s = 0, header_timeout_s = 0, body_timeout_s = 0;
  double keep_alive_s = 0, write_timeout_s = 0, sse_ping_s = 0;
  bool batch_invariant = true, prefix_cache = true, allow_unauthenticated = false, strict_fields = false,
       parse_special = true;
  std::vector<std::string> allowed_hosts, cors_origins, trusted_proxies, aliases;
};

enum class KeyType { text, choice, integer, number, boolean, bytes, list };

using SettingField = std::variant<std::string Settings::*, std::int64_t Settings::*, double Settings::*,
                                  bool Settings::*, std::vector<std::string> Settings::*>;

/// One configuration key. Its flag is the name with '-' for '_', its variable INFERD_ and the name in capitals.
struct SettingKey {
  std::string_view name;
  KeyType type;
  SettingField field;
  std::string_view default_text;
  std::string_view unit;                          // "" where there is none
  std::string_view meaning;                       // one line
  double min = 0, max = 0;                        // integer, number, bytes
  bool auto_allowed = false;                      // the word "auto" is a value, stored as 0
  std::string_view choices = {};                  // type choice: "a|b|c"; with `fits`: what it takes, in words
  bool (*fits)(std::string_view text) = nullptr;  // a text, or an item of a list, that this key takes; null: any
};

/// All keys but `models` and `adapters`, in the order of config/inferd.yaml.
std::span<const SettingKey> setting_keys();
const SettingKey* find_setting(std::string_view name);

/// "an integer from 0 to 65535", for error messages and --help.
std::string allowed_text(const SettingKey& key);

/// Stores `text` (list keys: items parted by commas) under `key`. `where` names the key as its source spells it:
/// "--max-batch-tokens", "INFERD_PORT", "inferd.yaml:3: port". On a bad value throws ConfigError
/// "WHERE: expected ALLOWED, found 'TEXT'".
void set_value(Settings& settings, const SettingKey& key, const std::string& text, const std::string& where);
void set_list(Settings& settings, const SettingKey& key, std::vector<std::string> items, const std::string& where);

/// Bytes in "2GiB", "1.5GB" or "4096"; nothing for other texts.
std::optional<std::int64_t> size_from_text(std::string_view text);

/// "auto", "cpu", "cuda" or "cuda:N".
bool valid_device(std::string_view device);

/// "auto", "all" or a number.
bool valid_gpu_layers(std::string_view layers);

/// Settings with every key at its default.
Settings default_settings();

/// "[NAME=]PATH" as --model takes it; `where` as of set_value. Throws ConfigError.
ModelSettings parse_model_argument(const std::string& text, const std::string& where);

/// "[NAME=]PATH" as --draft-model takes it, NAME being the model it guesses for. Throws ConfigError.
DraftSettings parse_draft_argument(const std::string& text, const std::string& where);

/// "NAME=PATH[:BASE]" as --adapter takes it; BASE is told from the path by finish_settings. Throws ConfigError.
AdapterSettings parse_adapter_argument(const std::string& text, const std::string& where);

/// Checks what needs several keys (unique model names, aliases that name a model, keys for open addresses), and fills
/// in derived model names. Throws ConfigError.
void finish_settings(Settings& settings);

/// The name an unnamed model is served under: its folder's name, or the file's stem without .gguf and -00001-of-N.
std::string default_model_name(const std::string& path);

/// True for 127.0.0.0/8, ::1 and localhost.
bool is_loopback_host(std::string_view host);

}  // namespace inferd
