// `inferd plan PATH`: what a model takes on each device, how it would be divided, and what fits beside it.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>

#include "base/errors.h"
#include "base/log.h"
#include "config/arguments.h"
#include "config/settings.h"
#include "engine/models/families.h"
#include "engine/models/placement.h"
#include "engine/options.h"
#include "engine/weights/summary.h"
#include "kernels/cpu/cpu_memory.h"
#include "kernels/cuda/driver.h"
#include "server/commands/commands.h"

namespace inferd {
namespace {

constexpr double kGpuFraction = 0.9;    // of free GPU memory is for a model
constexpr double kHostFraction = 0.25;  // of free RAM is for the KV cache of a model on the CPU
constexpr std::int64_t kRequestsOnCpu = 16, kRequestsOnGpu = 64;
constexpr std::int64_t kAutoContext = 4096;  // tokens for which an automatic division keeps room
constexpr std::int64_t kMostTokens = 1 << 24, kMostRequests = 4096, kMostLayers = 100'000;

struct PlanArguments {
  std::string path, kv_cache_type = "f16", gpu_layers = "auto", gpu_memory;
  std::int64_t context_length = 0, requests = 0, batch_tokens = 512;  // 0: auto
};

/// Memory free for a model, the fractions not yet taken off.
struct Machine {
  std::string gpu;  // empty: none
  std::size_t gpu_bytes = 0;
  std::size_t host_bytes = 0;
};

/// Fills *arguments; or says why to leave.
std::optional<EarlyExit> parse(std::span<const std::string> args, PlanArguments* arguments) {
  CLI::App app("inferd plan: what a model takes on each device, and which contexts fit", "inferd plan");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("PATH", arguments->path, "GGUF file or Hugging Face folder")->required();
  app.add_option("--context-length", arguments->context_length, "tokens of one request; 0: what the model was made for")
      ->check(CLI::Range(std::int64_t{0}, kMostTokens));
  app.add_option("--max-concurrent-requests", arguments->requests, "requests in one step; 0: the device's default")
      ->check(CLI::Range(std::int64_t{0}, kMostRequests));
  app.add_option("--max-batch-tokens", arguments->batch_tokens, "rows of one step")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens))
      ->capture_default_str();
  app.add_option("--kv-cache-type", arguments->kv_cache_type, "f16 or f32")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->capture_default_str();
  app.add_option("--gpu-layers", arguments->gpu_layers, "auto, all or a number")->capture_default_str();
  app.add_option("--gpu-memory", arguments->gpu_memory,
                 "plan for a GPU with so much free memory (24GiB; 0: none), whatever is here");
  return parse_arguments(app, args);
}

std::string size_text(std::size_t bytes) {
  char text[32];
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  const bool small = mebibytes < 10'000;
  std::snprintf(text, sizeof text, small ? "%.1f MiB" : "%.1f GiB", small ? mebibytes : mebibytes / 1024);
  return text;
}

Machine this_machine(const std::string& gpu_memory) {
  Machine machine;
  machine.host_bytes = available_memory();
  if (!gpu_memory.empty()) {
    const auto bytes = size_from_text(gpu_memory);
    if (!bytes) throw ConfigError("--gpu-memory: expected a size such as 24GiB, found " + log_safe(gpu_memory));
    machine.gpu_bytes = static_cast<std::size_t>(*bytes);
    if (*bytes > 0) machine.gpu = "GPU (as asked)";
    return machine;
  }
  try {
    const cuda::Driver driver = cuda::Driver::open();
    if (!driver.version_problem().empty()) return machine;
    const std::vector<cuda::DeviceInfo> devices = driver.devices();
    for (std::size_t i = 0; i < devices.size(); ++i) {
      std::printf("GPU %zu      %s, %s\n", i, devices[i].name.c_str(), size_text(devices[i].memory_bytes).c_str());
    }
    machine.gpu = "GPU 0 (" + devices[0].name + ")";
    machine.gpu_bytes = devices[0].memory_bytes;
  } catch (const FatalError& error) {
    std::printf("GPU        none: %s\n", error.what());
  }
  return machine;
}

/// Layers on the GPU; nothing for "auto". Throws ConfigError.
std::optional<std::int64_t> layers_wanted(const std::string& gpu_layers) {
  if (gpu_layers == "auto") return std::nullopt;
  if (gpu_layers == "all") return kMostLayers;
  const bool digits =
      !gpu_layers.empty() && gpu_layers.size() <= 5 && gpu_layers.find_first_not_of("0123456789") == std::string::npos;
  if (!digits) throw ConfigError("--gpu-layers: expected auto, all or a number, found " + log_safe(gpu_layers));
  return std::stoll(gpu_layers);
}

Placement place(const DecoderFootprint& decoder, const Machine& machine, std::optional<std::int64_t> wanted,
                std::int64_t kv_tokens) {
  const auto layers = static_cast<std::int64_t>(decoder.layers.size());
  if (machine.gpu.empty()) return place_layers(decoder, static_cast<int>(layers));
  if (wanted) return place_layers(decoder, static_cast<int>(std::max<std::int64_t>(0, layers - *wanted)));
  const auto budget = static_cast<std::size_t>(static_cast<double>(machine.gpu_bytes) * kGpuFraction);
  return choose_placement(decoder, budget, kv_tokens);
}

void print_model(const Checkpoint& checkpoint, const ModelConfig& config, const DecoderFootprint& decoder) {
  std::printf("model      %s, %s, %s, %.1f M parameters, context of %lld tokens\n", log_safe(config.name).c_str(),
              log_safe(config.model_type).c_str(), quantization_name(checkpoint).c_str(),
              static_cast<double>(parameter_count(checkpoint)) / 1e6,
              static_cast<long long>(config.max_position_embeddings));
  std::printf("weights    %s: %zu layers of %s, embedding %s", size_text(decoder.weights()).c_str(),
              decoder.layers.size(), size_text(decoder.layers.front()).c_str(), size_text(decoder.embedding).c_str());
  std::printf(decoder.output > 0 ? ", output %s\n" : " (also the output)\n", size_text(decoder.output).c_str());
  std::printf("KV cache   %.1f KiB a token over all layers\n",
              static_cast<double>(decoder.kv_per_token * decoder.layers.size()) / 1024);
}

bool is_encoder(const Checkpoint& checkpoint, const ModelConfig& config) {
  const std::span<const Family> all = families();
  return std::any_of(all.begin(), all.end(), [&](const Family& family) {
    const bool gguf = checkpoint.format() == CheckpointFormat::gguf;
    return family.load == load_bert && config.model_type == (gguf ? family.gguf_arch : family.model_type);
  });
}

/// Bytes for keys and values once the rest is in place; 0 if not even that fits.
std::size_t room(std::size_t available, std::size_t taken, double fraction) {
  const auto budget = static_cast<std::size_t>(static_cast<double>(available) * fraction);
  return budget > taken ? budget - taken : 0;
}

std::int64_t pool_tokens(const DecoderFootprint& decoder, const Machine& machine, const Placement& placement) {
  const auto layers = static_cast<int>(decoder.layers.size());
  const auto tokens = [&](std::size_t bytes, int on_device) {
    return on_device == 0
               ? kMostTokens * kMostRequests
               : static_cast<std::int64_t>(bytes / (decoder.kv_per_token * static_cast<std::size_t>(on_device)));
  };
  const std::size_t host_left =
      machine.host_bytes > placement.host_bytes ? machine.host_bytes - placement.host_bytes : 0;
  const bool cpu_only = placement.host_layers == layers;
  const std::int64_t on_gpu =
      cpu_only ? kMostTokens * kMostRequests
               : tokens(room(machine.gpu_bytes, placement.gpu_bytes, kGpuFraction), layers - placement.host_layers);
  const std::int64_t on_host =
      tokens(static_cast<std::size_t>(static_cast<double>(host_left) * (cpu_only ? kHostFraction : 0.5)),
             placement.host_layers);
  return std::min(on_gpu, on_host) / kKvBlockTokens * kKvBlockTokens;
}

void print_devices(const DecoderFootprint& decoder, const Machine& machine, const Placement& placement) {
  const auto layers = static_cast<int>(decoder.layers.size());
  std::printf("\n%-28s%-14s%-24s%s\n", "device", "free", "weights and workspace", "holds");
  const auto row = [](const std::string& device, std::size_t free, std::size_t taken, const std::string& holds) {
    std::printf("%-28s%-14s%-24s%s%s\n", device.c_str(), size_text(free).c_str(), size_text(taken).c_str(),
                holds.c_str(), taken > free ? "  DOES NOT FIT" : "");
  };
  const bool cpu_only = placement.host_layers == layers;
  if (!machine.gpu.empty()) {
    const int on_gpu = cpu_only ? 0 : layers - placement.host_layers;
    row(machine.gpu, machine.gpu_bytes, placement.gpu_bytes,
        cpu_only                    ? "nothing"
        : placement.host_layers > 0 ? "the last " + std::to_string(on_gpu) + " layers, output"
                                    : "all " + std::to_string(layers) + " layers, embedding, output");
  }
  row("host", machine.host_bytes, placement.host_bytes,
      cpu_only                    ? "all " + std::to_string(layers) + " layers, embedding, output"
      : placement.host_layers > 0 ? "the first " + std::to_string(placement.host_layers) + " layers, embedding"
                                  : "nothing");
}

void print_contexts(const PlanArguments& arguments, const ModelConfig& config, std::int64_t tokens, bool on_gpu) {
  const std::int64_t most = arguments.context_length > 0 ? arguments.context_length : config.max_position_embeddings;
  const std::int64_t limit = arguments.requests > 0 ? arguments.requests : on_gpu ? kRequestsOnGpu : kRequestsOnCpu;
  std::printf("\nKV cache for %lld tokens in all; so many requests of a context fit at a time (limit %lld):\n",
              static_cast<long long>(tokens), static_cast<long long>(limit));
  std::printf("%-12s%s\n", "context", "requests");
  std::int64_t context = 1024;
  for (; context < most; context *= 2) {
    std::printf("%-12lld%lld\n", static_cast<long long>(context),
                static_cast<long long>(std::min(limit, tokens / context)));
  }
  std::printf("%-12lld%lld\n", static_cast<long long>(most), static_cast<long long>(std::min(limit, tokens / most)));
}

}  // namespace

int run_plan(std::span<const std::string> args) {
  PlanArguments arguments;
  if (const auto early = parse(args, &arguments)) return early->print();
  const std::optional<std::int64_t> wanted = layers_wanted(arguments.gpu_layers);
  const std::unique_ptr<Checkpoint> checkpoint = Checkpoint::open(arguments.path);
  const ModelConfig config = read_model_config(*checkpoint);
  if (arguments.context_length > config.max_position_embeddings) {
    throw ConfigError("--context-length: expected at most " + std::to_string(config.max_position_embeddings) +
                      ", what the model was made for, found " + std::to_string(arguments.context_length));
  }
  if (is_encoder(*checkpoint, config)) {
    std::printf("model      %s, %s, an encoder: %s of weights, no KV cache, all on one device\n",
                log_safe(config.name).c_str(), log_safe(config.model_type).c_str(),
                size_text(checkpoint->tensor_bytes()).c_str());
    return 0;
  }
  const DType kv = arguments.kv_cache_type == "f32" ? DType::f32 : DType::f16;
  const std::int64_t rows = std::max<std::int64_t>(kRequestsOnGpu, arguments.requests);
  const DecoderFootprint decoder = measure_decoder(*checkpoint, config, kv, arguments.batch_tokens, rows);
  print_model(*checkpoint, config, decoder);
  const Machine machine = this_machine(arguments.gpu_memory);
  const std::int64_t context =
      arguments.context_length > 0 ? arguments.context_length : std::min(config.max_position_embeddings, kAutoContext);
  const Placement placement = place(decoder, machine, wanted, context);
  const bool on_gpu = placement.host_layers < config.num_layers;
  print_devices(decoder, machine, placement);
  std::printf("\ngpu_layers: %d of %d\n", on_gpu ? config.num_layers - placement.host_layers : 0, config.num_layers);
  print_contexts(arguments, config, pool_tokens(decoder, machine, placement), on_gpu);
  return 0;
}

}  // namespace inferd
