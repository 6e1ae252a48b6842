// From settings to the options of engine and server.
#include "server/commands/serve_options.h"

#include <algorithm>

#include "base/errors.h"

namespace inferd {
namespace {

constexpr std::int64_t kConcurrentOnCpu = 16;
constexpr std::int64_t kLeastLogitRows = 64;

int max_adapters(const Settings& settings) {
  constexpr std::size_t kOnRequest = 16;
  const std::size_t automatic = settings.adapters.size() + (settings.adapters_dir.empty() ? 0 : kOnRequest);
  return static_cast<int>(settings.max_adapters > 0 ? settings.max_adapters : static_cast<std::int64_t>(automatic));
}

void check_one_device(const std::string& device, const std::string& gpu_layers, const std::string& where) {
  if (device.starts_with("cuda")) {
    throw ConfigError(where + "device: " + device +
                      " needs a usable NVIDIA GPU, and this build has no CUDA backend; use "
                      "auto or cpu");
  }
  if (!gpu_layers.empty() && gpu_layers != "auto" && gpu_layers != "0") {
    throw ConfigError(where + "gpu_layers: " + gpu_layers +
                      " needs a usable NVIDIA GPU, and this build has no CUDA "
                      "backend; use auto or 0");
  }
}

}  // namespace

void check_device(const Settings& settings) {
  check_one_device(settings.device, settings.gpu_layers, "");
  for (const ModelSettings& model : settings.models) {
    check_one_device(model.device, model.gpu_layers, "models: " + model.name + ": ");
  }
}

HttpOptions http_options(const Settings& settings) {
  HttpOptions options;
  options.host = settings.host;
  options.port = static_cast<int>(settings.port);
  options.max_connections = static_cast<int>(settings.max_connections);
  options.max_body_bytes = static_cast<std::size_t>(settings.max_body_bytes);
  options.max_header_bytes = static_cast<std::size_t>(settings.max_header_bytes);
  options.header_timeout_s = settings.header_timeout_s;
  options.body_timeout_s = settings.body_timeout_s;
  options.keep_alive_s = settings.keep_alive_s;
  options.write_timeout_s = settings.write_timeout_s;
  options.trusted_proxies = settings.trusted_proxies;
  return options;
}

AccessOptions access_options(const Settings& settings) {
  AccessOptions options;
  options.loopback_only = is_loopback_host(settings.host);
  options.allowed_hosts = settings.allowed_hosts;
  for (std::string& host : options.allowed_hosts) {
    std::transform(host.begin(), host.end(), host.begin(),
                   [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  }
  options.cors_origins = settings.cors_origins;
  return options;
}

ApiOptions api_options(const Settings& settings) {
  ApiOptions options;
  options.strict_fields = settings.strict_fields;
  options.parse_special = settings.parse_special;
  options.default_max_tokens = settings.default_max_tokens;
  options.request_deadline_s = settings.request_deadline_s;
  options.sse_ping_s = settings.sse_ping_s;
  options.max_messages = settings.max_messages;
  options.max_tools = settings.max_tools;
  options.adapters_dir = settings.adapters_dir;
  return options;
}

EngineOptions engine_options(const Settings& settings) {
  EngineOptions options;
  options.context_length = settings.context_length;
  options.max_batch_tokens = settings.max_batch_tokens;
  options.max_concurrent_requests =
      settings.max_concurrent_requests > 0 ? settings.max_concurrent_requests : kConcurrentOnCpu;
  options.max_queued_requests = settings.max_queued_requests;
  options.kv_cache_bytes = static_cast<std::size_t>(settings.kv_cache_memory);
  options.kv_dtype = settings.kv_cache_type == "f32"    ? DType::f32
                     : settings.kv_cache_type == "q8_0" ? DType::q8_0
                                                        : DType::f16;
  options.queue_wait_s = settings.queue_wait_s;
  options.prefix_cache = settings.prefix_cache;
  options.max_adapters = max_adapters(settings);
  options.speculation.mode = settings.speculative == "off"     ? SpeculationMode::off
                             : settings.speculative == "ngram" ? SpeculationMode::ngram
                                                               : SpeculationMode::automatic;
  options.speculation.max_tokens = settings.speculative_tokens;
  options.max_logit_rows = std::max(kLeastLogitRows, options.max_concurrent_requests);
  return options;
}

CpuBackendOptions cpu_options(const Settings& settings) {
  CpuBackendOptions options;
  options.threads = static_cast<int>(settings.threads);
  options.isa = settings.isa;
  options.activations = settings.activations == "f32" ? ActivationMode::f32 : ActivationMode::automatic;
  return options;
}

std::vector<ModelSpec> model_specs(const Settings& settings) {
  std::vector<ModelSpec> specs;
  for (const ModelSettings& model : settings.models) {
    ModelSpec spec;
    spec.name = model.name;
    spec.path = model.path;
    spec.chat_template_file = model.chat_template;
    spec.context_length = model.context_length;
    spec.aliases = model.aliases;
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace inferd
