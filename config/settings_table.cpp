// The table of configuration keys: to add one, add a field to Settings, a row here and its lines in inferd.yaml.
#include "config/settings.h"

namespace inferd {
namespace {

using S = Settings;
constexpr double kTera = 1e12;

bool is_origin(std::string_view text) {
  return text == "*" || text.starts_with("http://") || text.starts_with("https://");
}

bool is_alias(std::string_view text) { return text.find('=') != std::string_view::npos; }

constexpr SettingKey kKeys[] = {
    {"host", KeyType::text, &S::host, "127.0.0.1", "",
     "address to listen on; any but a loopback address needs API keys"},
    {"port", KeyType::integer, &S::port, "8080", "", "TCP port; 0 takes a free one and prints it", 0, 65535},
    {"device", KeyType::text, &S::device, "auto", "", "where models run", 0, 0, false, "auto, cpu, cuda or cuda:N",
     valid_device},
    {"gpu_layers", KeyType::text, &S::gpu_layers, "auto", "", "layers of a model kept on the GPU", 0, 0, false,
     "auto, all or a number", valid_gpu_layers},
    {"tensor_parallel", KeyType::integer, &S::tensor_parallel, "1", "GPUs",
     "divide every matrix of a model between so many GPUs, which compute together; needs NCCL", 1, 64},
    {"gpu_memory_fraction", KeyType::number, &S::gpu_memory_fraction, "0.9", "",
     "share of a GPU's free memory that weights, workspace and KV cache may take together", 0.05, 1},
    {"threads", KeyType::integer, &S::threads, "auto", "threads",
     "CPU worker threads; auto: physical cores this process may use", 1, 1024, true},
    {"isa", KeyType::choice, &S::isa, "auto", "", "CPU instruction set of the kernels", 0, 0, false,
     "auto|portable|avx2|avxvnni|avx512vnni|amx"},
    {"activations", KeyType::choice, &S::activations, "auto", "",
     "arithmetic of linear layers: auto is the fastest faithful form, f32 is exact and slow", 0, 0, false, "auto|f32"},
    {"batch_invariant", KeyType::boolean, &S::batch_invariant, "true", "",
     "answers that do not depend on other requests; false: on GPUs large products go through cuBLASLt, which must be "
     "installed, and seed promises nothing"},
    {"quantization", KeyType::choice, &S::quantization, "none", "",
     "quantise unquantised weights while loading; models below about 1B parameters lose much by it", 0, 0, false,
     "none|int8|int4"},
    {"cache_dir", KeyType::text, &S::cache_dir, "", "",
     "folder that keeps quantised weights; empty: systemd's CacheDirectory, else $XDG_CACHE_HOME/inferd or "
     "~/.cache/inferd"},
    {"cache_limit", KeyType::bytes, &S::cache_limit, "200GiB", "bytes",
     "most that quantised weights may take there; the longest unused go first", 0, 64 * kTera},
    {"context_length", KeyType::integer, &S::context_length, "auto", "tokens",
     "prompt and output of one request; auto: the model's maximum or what the KV cache holds", 16, 16e6, true},
    {"max_batch_tokens", KeyType::integer, &S::max_batch_tokens, "512", "tokens",
     "rows computed in one step; more is faster for prompts and takes more memory", 16, 65536},
    {"max_concurrent_requests", KeyType::integer, &S::max_concurrent_requests, "auto", "requests",
     "requests decoded together; auto: 16 on a CPU, 64 on a GPU", 1, 4096, true},
    {"max_queued_requests", KeyType::integer, &S::max_queued_requests, "256", "requests",
     "requests that may wait beyond those; further ones get 429", 1, 100000},
    {"max_queued_inputs", KeyType::integer, &S::max_queued_inputs, "4096", "inputs",
     "embedding inputs that may wait; further ones get 429", 2048, 1e6},
    {"kv_cache_memory", KeyType::bytes, &S::kv_cache_memory, "auto", "bytes",
     "memory of the KV cache of each model, e.g. 2GiB; auto: a quarter of free RAM, at most 8 full contexts; on a GPU "
     "what gpu_memory_fraction leaves",
     1 << 20, 64 * kTera, true},
    {"kv_cache_type", KeyType::choice, &S::kv_cache_type, "f16", "",
     "number format of the KV cache; q8_0 is half of f16, at a small price in answers; fp8 (e4m3, on GPUs) is a little "
     "less "
     "at a higher price",
     0, 0, false, "f16|f32|q8_0|fp8"},
    {"prefix_cache", KeyType::boolean, &S::prefix_cache, "true", "",
     "reuse computed prompt beginnings between requests"},
    {"speculative", KeyType::choice, &S::speculative, "auto", "",
     "guess next tokens and check them together; answers stay the same; ngram: where a request repeats itself; draft: "
     "by the draft models; auto: by either where it pays, on CPUs only",
     0, 0, false, "auto|off|ngram|draft"},
    {"speculative_tokens", KeyType::integer, &S::speculative_tokens, "8", "tokens", "longest guess", 1, 32},
    {"default_max_tokens", KeyType::integer, &S::default_max_tokens, "auto", "tokens",
     "output limit of chat requests that give none; auto: up to the context's end", 1, 16e6, true},
    {"queue_wait_s", KeyType::number, &S::queue_wait_s, "600", "seconds",
     "longest wait before a request's first step; then it ends with 503", 1, 86400},
    {"request_deadline_s", KeyType::number, &S::request_deadline_s, "0", "seconds",
     "longest time one request may take in all; 0: no limit", 0, 86400},
    {"drain_s", KeyType::number, &S::drain_s, "120", "seconds",
     "after SIGTERM, how long running requests may go on before they are ended", 0, 86400},
    {"stuck_s", KeyType::number, &S::stuck_s, "60", "seconds",
     "the engine counts as stuck, and the process ends, after so long without progress on waiting work", 5, 86400},
    {"api_key_file", KeyType::text, &S::api_key_file, "", "",
     "file of API keys, one a line: the key itself, or sha256:HEX, optionally followed by :SCOPES"},
    {"allow_unauthenticated", KeyType::boolean, &S::allow_unauthenticated, "false", "",
     "serve an open address without API keys"},
    {"allowed_hosts", KeyType::list, &S::allowed_hosts, "", "",
     "names accepted in the Host header besides localhost (checked on loopback, or whenever this is set)"},
    {"cors_origins", KeyType::list, &S::cors_origins, "", "",
     "web origins whose pages may call this server, e.g. https://app.example.com", 0, 0, false,
     "http://HOST[:PORT], https://HOST[:PORT] or *", is_origin},
    {"trusted_proxies", KeyType::list, &S::trusted_proxies, "", "",
     "addresses whose X-Forwarded-For header is believed"},
    {"aliases", KeyType::list, &S::aliases, "", "", "further names of served models, as ALIAS=NAME", 0, 0, false,
     "ALIAS=NAME", is_alias},
    {"chat_template", KeyType::text, &S::chat_template, "", "",
     "Jinja file used instead of the chat template of the first model"},
    {"reasoning_parser", KeyType::choice, &S::reasoning_parser, "auto", "",
     "how answers mark their reasoning, which is told apart from the content; auto: as the model's template says", 0, 0,
     false, "auto|none|think|mistral"},
    {"tool_parser", KeyType::choice, &S::tool_parser, "auto", "",
     "form in which the model calls tools; auto: as its template says", 0, 0, false,
     "auto|none|qwen3_coder|glm45|hermes|mistral|llama3|chatglm3|glm4|deepseek"},
    {"adapters_dir", KeyType::text, &S::adapters_dir, "", "",
     "folder from which POST /v1/load_lora_adapter may load adapters; empty: that endpoint refuses"},
    {"max_adapters", KeyType::integer, &S::max_adapters, "auto", "adapters",
     "LoRA adapters each model may have loaded; auto: those of the configuration, and 16 more with adapters_dir", 1,
     256, true},
    {"parse_special", KeyType::boolean, &S::parse_special, "true", "",
     "read control tokens in the text of /v1/completions and /tokenize (never in chat messages)"},
    {"strict_fields", KeyType::boolean, &S::strict_fields, "false", "",
     "refuse unknown request fields with 400 instead of ignoring them"},
    {"log_level", KeyType::choice, &S::log_level, "info", "", "least severe messages to log", 0, 0, false,
     "trace|debug|info|warn|error"},
    {"max_connections", KeyType::integer, &S::max_connections, "1024", "connections",
     "connections open at a time; further ones get 503 and are closed", 1, 65536},
    {"max_body_bytes", KeyType::bytes, &S::max_body_bytes, "16MiB", "bytes", "largest request body", 1024, 1 << 30},
    {"max_header_bytes", KeyType::bytes, &S::max_header_bytes, "32KiB", "bytes",
     "largest request line and headers together", 1024, 1 << 20},
    {"max_messages", KeyType::integer, &S::max_messages, "4096", "messages", "longest list of messages in a request", 1,
     1e6},
    {"max_tools", KeyType::integer, &S::max_tools, "128", "tools", "longest list of tools in a request", 1, 1e5},
    {"header_timeout_s", KeyType::number, &S::header_timeout_s, "10", "seconds",
     "time in which request line and headers must arrive", 0.1, 3600},
    {"body_timeout_s", KeyType::number, &S::body_timeout_s, "60", "seconds",
     "time after which a body arriving at less than 1 KiB/s is given up", 0.1, 3600},
    {"keep_alive_s", KeyType::number, &S::keep_alive_s, "5", "seconds", "how long an idle connection is kept", 0, 3600},
    {"write_timeout_s", KeyType::number, &S::write_timeout_s, "30", "seconds",
     "a client that takes longer to accept one piece of an answer is dropped", 0.1, 3600},
    {"sse_ping_s", KeyType::number, &S::sse_ping_s, "15", "seconds",
     "silence after which a stream gets a comment line, so that proxies keep it", 1, 3600},
};

}  // namespace

std::span<const SettingKey> setting_keys() { return kKeys; }

}  // namespace inferd
