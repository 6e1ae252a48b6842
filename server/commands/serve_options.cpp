// From settings to the options of engine and server.
#include "server/commands/serve_options.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::int64_t kConcurrentOnCpu = 16, kConcurrentOnGpu = 64;
constexpr std::int64_t kLeastLogitRows = 64;

int max_adapters(const Settings& settings) {
  constexpr std::size_t kOnRequest = 16;
  const std::size_t automatic = settings.adapters.size() + (settings.adapters_dir.empty() ? 0 : kOnRequest);
  return static_cast<int>(settings.max_adapters > 0 ? settings.max_adapters : static_cast<std::int64_t>(automatic));
}

}  // namespace

GpuList check_devices(const Settings& settings) {
  const std::vector<ModelSpec> specs = model_specs(settings);
  const bool any = std::any_of(specs.begin(), specs.end(), [](const ModelSpec& spec) { return may_use_gpu(spec); });
  const GpuList gpus = any ? list_gpus() : GpuList{};
  bool on_gpu = false;
  for (const ModelSpec& spec : specs) on_gpu = choose_device(spec, gpus).gpu >= 0 || on_gpu;
  if (on_gpu && !settings.batch_invariant) {
    if (const BlasInfo blas = find_cublaslt(); !blas.problem.empty()) throw ConfigError(blas.problem);
  }
  return gpus;
}

std::vector<std::string> without_effect(const Settings& settings, const GpuList& gpus) {
  std::vector<std::string> lines;
  if (settings.batch_invariant) return lines;
  const PanelLimits limits;
  bool on_gpu = false;
  for (const ModelSpec& spec : model_specs(settings)) {
    if (spec.simulated()) continue;
    if (choose_device(spec, gpus).gpu >= 0) {
      on_gpu = true;
    } else {
      lines.push_back("model " + log_safe(spec.name) +
                      " runs on the CPU, where batch_invariant: false changes nothing");
    }
  }
  const std::int64_t most = settings.max_batch_tokens;
  if (!on_gpu || most >= limits.dense_tokens) return lines;
  const std::string steps = "steps have at most max_batch_tokens: " + std::to_string(most) + " tokens; cuBLASLt takes ";
  lines.push_back("batch_invariant: false: " + steps +
                  (most < limits.quantized_tokens
                       ? "none below " + std::to_string(limits.quantized_tokens) + ", so it changes nothing"
                       : "16-bit weights from " + std::to_string(limits.dense_tokens) + " on, so only quantised ones"));
  return lines;
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

EngineOptions engine_options(const Settings& settings, bool gpu) {
  EngineOptions options;
  options.context_length = settings.context_length;
  options.max_batch_tokens = settings.max_batch_tokens;
  options.max_concurrent_requests = settings.max_concurrent_requests > 0 ? settings.max_concurrent_requests
                                    : gpu                                ? kConcurrentOnGpu
                                                                         : kConcurrentOnCpu;
  options.max_queued_requests = settings.max_queued_requests;
  options.kv_cache_bytes = static_cast<std::size_t>(settings.kv_cache_memory);
  options.kv_dtype = settings.kv_cache_type == "f32"    ? DType::f32
                     : settings.kv_cache_type == "q8_0" ? DType::q8_0
                     : settings.kv_cache_type == "fp8"  ? DType::fp8
                                                        : DType::f16;
  if (gpu) {  // nobody else wants what is left of it
    options.kv_memory_fraction = 1.0;
    options.kv_full_contexts = 0;
  }
  options.queue_wait_s = settings.queue_wait_s;
  options.prefix_cache = settings.prefix_cache;
  options.max_adapters = max_adapters(settings);
  options.speculation.mode = settings.speculative == "off"     ? SpeculationMode::off
                             : settings.speculative == "ngram" ? SpeculationMode::ngram
                             : settings.speculative == "draft" ? SpeculationMode::draft
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

DeviceOptions device_options(const Settings& settings) {
  DeviceOptions options;
  options.cpu = cpu_options(settings);
  options.cpu_engine = engine_options(settings);
  options.gpu_engine = engine_options(settings, true);
  options.gpu_memory_fraction = settings.gpu_memory_fraction;
  options.batch_invariant = settings.batch_invariant;
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
    spec.quantization =
        parse_load_quantization(model.quantization.empty() ? settings.quantization : model.quantization);
    spec.device = model.device.empty() ? settings.device : model.device;
    spec.gpu_layers = model.gpu_layers.empty() ? settings.gpu_layers : model.gpu_layers;
    spec.tensor_parallel = model.tensor_parallel > 0 ? model.tensor_parallel : settings.tensor_parallel;
    spec.aliases = model.aliases;
    spec.draft_path = model.draft_model;
    spec.reasoning_parser = model.reasoning_parser.empty() ? settings.reasoning_parser : model.reasoning_parser;
    spec.tool_parser = model.tool_parser.empty() ? settings.tool_parser : model.tool_parser;
    specs.push_back(std::move(spec));
  }
  return specs;
}

namespace {

std::string cache_folder(const Settings& settings, const Environment& environment) {
  if (!settings.cache_dir.empty()) return settings.cache_dir;
  const auto absolute = [&](const char* variable) {
    const std::string value = environment(variable).value_or("");
    return value.starts_with('/') ? value : std::string();  // what is relative counts for nothing (XDG specification)
  };
  if (const std::string systemd = absolute("CACHE_DIRECTORY"); !systemd.empty()) {
    return systemd.substr(0, systemd.find(':'));
  }
  if (const std::string xdg = absolute("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/inferd";
  if (const std::string home = absolute("HOME"); !home.empty()) return home + "/.cache/inferd";
  return {};
}

}  // namespace

WeightCache weight_cache(const Settings& settings, const Environment& environment) {
  return {.dir = cache_folder(settings, environment), .limit = static_cast<std::size_t>(settings.cache_limit)};
}

}  // namespace inferd
