// `inferd plan PATH`: what a model takes on each device, how it would be divided, and what fits beside it.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/errors.h"
#include "base/log.h"
#include "config/arguments.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/models/families.h"
#include "engine/models/placement.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/summary.h"
#include "kernels/cpu/cpu_memory.h"
#include "server/commands/commands.h"
#include "server/commands/serve_options.h"
#include "server/draft_loader.h"

namespace inferd {
namespace {

constexpr std::int64_t kMostTokens = 1 << 24, kMostRequests = 4096, kMostGpus = 64;

struct PlanArguments {
  std::string path, draft_path, gpu_memory;
  Settings settings = default_settings();  // of serve
};

/// A draft model beside it; all 0: none.
struct DraftFootprint {
  std::size_t resident = 0;      // weights and workspace
  std::size_t kv_per_token = 0;  // over all layers
};

/// Memory free for a model, the fractions not yet taken off.
struct Machine {
  std::string gpu;            // empty: none
  int gpus = 1;               // that a model is divided between
  std::size_t gpu_bytes = 0;  // of the one that has the least
  std::size_t host_bytes = 0;
};

/// Fills *arguments; or says why to leave.
std::optional<EarlyExit> parse(std::span<const std::string> args, PlanArguments* arguments) {
  CLI::App app("inferd plan: what a model takes on each device, and which contexts fit", "inferd plan");
  app.set_help_flag("-h,--help", "print this help");
  Settings& settings = arguments->settings;
  app.add_option("PATH", arguments->path, "GGUF file or Hugging Face folder")->required();
  app.add_option("--context-length", settings.context_length, "tokens of one request; 0: what the model was made for")
      ->check(CLI::Range(std::int64_t{0}, kMostTokens));
  app.add_option("--max-concurrent-requests", settings.max_concurrent_requests,
                 "requests in one step; 0: the device's default")
      ->check(CLI::Range(std::int64_t{0}, kMostRequests));
  app.add_option("--max-batch-tokens", settings.max_batch_tokens, "rows of one step")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens))
      ->capture_default_str();
  app.add_option("--kv-cache-type", settings.kv_cache_type, "f16, f32, q8_0 or, on GPUs, fp8")
      ->check(CLI::IsMember({"f16", "f32", "q8_0", "fp8"}))
      ->capture_default_str();
  app.add_option("--quantization", settings.quantization, "quantise unquantised weights while loading, as serve would")
      ->check(CLI::IsMember({"none", "int8", "int4"}));
  app.add_option("--draft-model", arguments->draft_path, "of a smaller model that guesses for it, as for serve");
  app.add_option("--gpu-layers", settings.gpu_layers, "auto, all or a number")->capture_default_str();
  app.add_option("--tensor-parallel", settings.tensor_parallel, "GPUs that each matrix is divided between")
      ->check(CLI::Range(std::int64_t{1}, kMostGpus))
      ->capture_default_str();
  app.add_option("--gpu-memory", arguments->gpu_memory,
                 "plan for a GPU with so much free memory (24GiB; 0: none), or as many as needed, whatever is here");
  return parse_arguments(app, args);
}

std::string size_text(std::size_t bytes) {
  char text[32];
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  const bool small = mebibytes < 10'000;
  std::snprintf(text, sizeof text, small ? "%.1f MiB" : "%.1f GiB", small ? mebibytes : mebibytes / 1024);
  return text;
}

/// The GPUs here, or as many as are asked for with so much memory each.
GpuList gpus_of(const std::string& gpu_memory, std::int64_t count) {
  if (gpu_memory.empty()) return list_gpus();
  const auto bytes = size_from_text(gpu_memory);
  if (!bytes) throw ConfigError("--gpu-memory: expected a size such as 24GiB, found " + log_safe(gpu_memory));
  GpuList list;
  list.problem = *bytes > 0 ? "" : "--gpu-memory is 0";
  for (int i = 0; *bytes > 0 && i < count; ++i) {
    list.gpus.push_back({i, "as asked", static_cast<std::size_t>(*bytes), 0, ""});
  }
  return list;
}

Machine this_machine(const PlanArguments& arguments) {
  const Settings& settings = arguments.settings;
  const std::string& gpu_memory = arguments.gpu_memory;
  Machine machine;
  machine.host_bytes = available_memory();
  const GpuList list = gpus_of(gpu_memory, settings.tensor_parallel);
  if (gpu_memory.empty()) {
    for (const GpuInfo& gpu : list.gpus) {
      std::printf("GPU %d      %s, %s\n", gpu.ordinal, gpu.name.c_str(), size_text(gpu.memory_bytes).c_str());
    }
    if (!list.problem.empty()) std::printf("GPU        none: %s\n", list.problem.c_str());
  }
  ModelSpec spec;
  spec.name = spec.path = arguments.path;
  spec.draft_path = arguments.draft_path;
  spec.gpu_layers = settings.tensor_parallel > 1 ? settings.gpu_layers : "auto";  // without, a plan is for any division
  spec.tensor_parallel = settings.tensor_parallel;
  const DeviceChoice choice = choose_device(spec, list);
  if (choice.gpu < 0) return machine;
  for (const int ordinal : choice.gpus()) {
    const GpuInfo& gpu = list.gpus.at(static_cast<std::size_t>(ordinal));
    const std::size_t least = machine.gpu.empty() ? gpu.memory_bytes : machine.gpu_bytes;
    machine.gpu_bytes = std::min(least, gpu.memory_bytes);
    machine.gpu = gpu_memory.empty() ? "GPU " + std::to_string(ordinal) + " (" + gpu.name + ")" : "GPU (as asked)";
  }
  machine.gpus = static_cast<int>(choice.gpus().size());
  if (machine.gpus > 1) machine.gpu = "each of " + std::to_string(machine.gpus) + " GPUs";
  return machine;
}

Placement place(const DecoderFootprint& decoder, const Machine& machine, const Settings& settings,
                std::int64_t kv_tokens) {
  const auto layers = static_cast<int>(decoder.layers.size());
  if (machine.gpu.empty()) return place_layers(decoder, layers);
  if (machine.gpus > 1) return place_layers(decoder, 0);
  const int asked = layers_asked(settings.gpu_layers);
  if (asked != kAutoLayers) return place_layers(decoder, std::max(0, layers - asked));
  const auto budget = static_cast<std::size_t>(static_cast<double>(machine.gpu_bytes) * settings.gpu_memory_fraction);
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

/// Bytes for keys and values once the rest is in place; 0 if not even that fits.
std::size_t room(std::size_t available, std::size_t taken, double fraction) {
  const auto budget = static_cast<std::size_t>(static_cast<double>(available) * fraction);
  return budget > taken ? budget - taken : 0;
}

std::int64_t pool_tokens(const DecoderFootprint& decoder, const DraftFootprint& draft, const Machine& machine,
                         const Placement& placement, const Settings& settings) {
  const auto layers = static_cast<int>(decoder.layers.size());
  const auto tokens = [&](std::size_t bytes, int on_device) {
    if (on_device == 0) return kMostTokens * kMostRequests;
    const std::size_t per_token = decoder.kv_per_token * static_cast<std::size_t>(on_device) + draft.kv_per_token;
    return static_cast<std::int64_t>(bytes / per_token);
  };
  const std::size_t host_left =
      machine.host_bytes > placement.host_bytes ? machine.host_bytes - placement.host_bytes : 0;
  const bool cpu_only = placement.host_layers == layers;
  const std::int64_t on_gpu = cpu_only
                                  ? kMostTokens * kMostRequests
                                  : tokens(room(machine.gpu_bytes, placement.gpu_bytes, settings.gpu_memory_fraction),
                                           layers - placement.host_layers);
  const double host_fraction = cpu_only ? engine_options(settings).kv_memory_fraction : kHostKvFraction;
  const std::int64_t on_host =
      tokens(static_cast<std::size_t>(static_cast<double>(host_left) * host_fraction), placement.host_layers);
  return std::min(on_gpu, on_host) / kKvBlockTokens * kKvBlockTokens;
}

/// Measures the draft model at `path` and says what it takes. Throws ConfigError for one that serve would refuse.
DraftFootprint measure_draft(const std::string& path, const Checkpoint& model, const std::string& model_path,
                             const EngineOptions& options) {
  const std::unique_ptr<Checkpoint> checkpoint = Checkpoint::open(path);
  check_same_vocabulary(*load_tokenizer(model), *load_tokenizer(*checkpoint), model_path, path);
  const ModelConfig config = read_model_config(*checkpoint);
  if (is_encoder(*checkpoint, config)) {
    throw ConfigError("--draft-model: " + log_safe(path) + ": expected a model that generates text");
  }
  check_kv_dtype(options.kv_dtype, config.name, config.head_dim);
  const DecoderFootprint draft =
      measure_decoder(*checkpoint, config, options.kv_dtype, options.max_batch_tokens, options.max_logit_rows);
  const DraftFootprint out{.resident = draft.weights() + draft.workspace + draft.output_workspace,
                           .kv_per_token = draft.kv_per_token * draft.layers.size()};
  std::printf("draft      %s, %s: %s of weights, KV cache %.1f KiB a token\n", log_safe(config.name).c_str(),
              quantization_name(*checkpoint).c_str(), size_text(draft.weights()).c_str(),
              static_cast<double>(out.kv_per_token) / 1024);
  return out;
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
        : machine.gpus > 1          ? "its part of all " + std::to_string(layers) + " layers, embedding, output"
        : placement.host_layers > 0 ? "the last " + std::to_string(on_gpu) + " layers, output"
                                    : "all " + std::to_string(layers) + " layers, embedding, output");
  }
  row("host", machine.host_bytes, placement.host_bytes,
      cpu_only                    ? "all " + std::to_string(layers) + " layers, embedding, output"
      : placement.host_layers > 0 ? "the first " + std::to_string(placement.host_layers) + " layers, embedding"
                                  : "nothing");
}

void print_contexts(const Settings& settings, const ModelConfig& config, std::int64_t tokens, bool on_gpu) {
  const std::int64_t most = settings.context_length > 0 ? settings.context_length : config.max_position_embeddings;
  const std::int64_t limit = engine_options(settings, on_gpu).max_concurrent_requests;
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
  const Settings& settings = arguments.settings;
  if (!valid_gpu_layers(settings.gpu_layers)) {
    throw ConfigError("--gpu-layers: expected auto, all or a number, found " + log_safe(settings.gpu_layers));
  }
  std::unique_ptr<Checkpoint> checkpoint = Checkpoint::open(arguments.path);
  const std::size_t stored_bytes = checkpoint->tensor_bytes();
  const LoadQuantization to = parse_load_quantization(settings.quantization);
  if (to != LoadQuantization::none) checkpoint = planned_checkpoint(std::move(checkpoint), to);
  const ModelConfig config = read_model_config(*checkpoint);
  if (settings.context_length > config.max_position_embeddings) {
    throw ConfigError("--context-length: expected at most " + std::to_string(config.max_position_embeddings) +
                      ", what the model was made for, found " + std::to_string(settings.context_length));
  }
  if (to != LoadQuantization::none) {
    std::printf("quantising %s as stored become %s (%s)\n", size_text(stored_bytes).c_str(),
                size_text(checkpoint->tensor_bytes()).c_str(), std::string(load_quantization_name(to)).c_str());
  }
  const auto ranks = static_cast<int>(settings.tensor_parallel);
  check_ranks(*checkpoint, config, ranks);
  if (is_encoder(*checkpoint, config)) {
    if (!arguments.draft_path.empty()) {
      throw ConfigError("--draft-model: " + log_safe(config.name) + " generates no text, so nothing can be guessed");
    }
    std::printf("model      %s, %s, an encoder: %s of weights, no KV cache, all on one device\n",
                log_safe(config.name).c_str(), log_safe(config.model_type).c_str(),
                size_text(checkpoint->tensor_bytes()).c_str());
    return 0;
  }
  const EngineOptions options = engine_options(settings, true);
  check_kv_dtype(options.kv_dtype, config.name, config.head_dim);
  const DecoderFootprint decoder =
      measure_decoder(*checkpoint, config, options.kv_dtype, options.max_batch_tokens, options.max_logit_rows);
  print_model(*checkpoint, config, decoder);
  const Machine machine = this_machine(arguments);
  DraftFootprint draft;
  if (!arguments.draft_path.empty()) {
    draft = measure_draft(arguments.draft_path, *checkpoint, arguments.path, options);
  }
  const DecoderFootprint own =
      measure_decoder(*checkpoint, config, options.kv_dtype, options.max_batch_tokens, options.max_logit_rows, ranks);
  if (ranks > 1) {
    std::printf("each GPU   %s of weights, KV cache %.1f KiB a token\n", size_text(own.weights()).c_str(),
                static_cast<double>(own.kv_per_token * own.layers.size()) / 1024);
  }
  const std::int64_t context = settings.context_length > 0
                                   ? settings.context_length
                                   : std::min(config.max_position_embeddings, kAutoContextTokens);
  Placement placement = place(own, machine, settings, context);
  placement.host_bytes += draft.resident;  // choose_device lets it be on the host only
  const bool on_gpu = placement.host_layers < config.num_layers;
  if (placement.host_layers > 0 && options.kv_dtype == DType::fp8) {
    refuse_kv_on_cpu(config.name, "the CPU (" + std::to_string(placement.host_layers) + " of " +
                                      std::to_string(config.num_layers) + ")");
  }
  print_devices(own, machine, placement);
  std::printf("\ngpu_layers: %d of %d\n", on_gpu ? config.num_layers - placement.host_layers : 0, config.num_layers);
  print_contexts(settings, config, pool_tokens(own, draft, machine, placement, settings), on_gpu);
  return 0;
}

}  // namespace inferd
