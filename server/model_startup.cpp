// Start-up of the models: weights first, then places.
#include "server/model_startup.h"

#include <algorithm>
#include <utility>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

class Startup {
 public:
  Startup(const GpuList& gpus, DeviceGroups& groups, const StartupOptions& options)
      : gpus_(gpus), groups_(groups), options_(options) {}

  void prepare(const ModelSpec& spec) {
    Item item{&spec, choose_device(spec, gpus_), {}};
    if (!spec.simulated()) spdlog::info("model {}: {}", log_safe(spec.name), describe_choice(item.choice, gpus_));
    or_on_processor(item, [&] { item.prepared = prepare_model(spec, context_of(item)); });
    items_.push_back(std::move(item));
  }

  void place(ModelTable& models) {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      Item& item = items_[i];
      std::unique_ptr<ServedModel> placed;
      or_on_processor(item, [&] {
        if (!item.prepared.served) item.prepared = prepare_model(*item.spec, context_of(item));
        LoadContext context = context_of(item);
        if (item.choice.gpu >= 0) context.engine_options.kv_memory_fraction /= static_cast<double>(decoders_from(i));
        placed = place_model(std::move(item.prepared), context);
      });
      models.add(std::move(placed), item.spec->aliases);
    }
  }

 private:
  struct Item {
    const ModelSpec* spec;
    DeviceChoice choice;
    PreparedModel prepared;  // empty once it has been placed
  };

  LoadContext context_of(const Item& item) {
    DeviceGroup& group = item.spec->simulated() ? groups_.processor() : groups_.group(item.choice.gpus());
    return {.engine = *group.engine,
            .backend = group.backend.get(),
            .sim_backend = groups_.sim_backend(),
            .engine_options = group.engine_options,
            .max_queued_inputs = options_.max_queued_inputs,
            .weight_cache = options_.weight_cache,
            .threads = options_.threads,
            .build = options_.build,
            .progress = options_.progress,
            .host = group.gpu && item.choice.others.empty()
            ? [this, &group]() -> Backend& { return groups_.host_of(group); }
            : std::function<Backend&()>(),
            .gpu_layers = item.choice.gpu_layers};
  }

  /// Decoders on the GPU of item `first` that have no KV cache yet, that item included.
  std::size_t decoders_from(std::size_t first) const {
    const auto shares = [&](const Item& item) {
      return item.choice.gpu == items_[first].choice.gpu && item.prepared.weights.decoder != nullptr;
    };
    const auto count = std::count_if(items_.begin() + static_cast<std::ptrdiff_t>(first), items_.end(), shares);
    return std::max<std::size_t>(1, static_cast<std::size_t>(count));
  }

  template <typename Function>
  void or_on_processor(Item& item, Function function) {
    try {
      function();
      return;
    } catch (const FatalError& error) {
      const bool unfit = error.code == ExitCode::no_memory || error.code == ExitCode::bad_config;
      if (!item.choice.may_fall_back || !unfit) throw;
      spdlog::warn("model {} runs on the CPU: {}", log_safe(item.spec->name), log_safe(error.what()));
    }
    item.prepared = {};
    item.choice = {};
    function();
  }

  const GpuList& gpus_;
  DeviceGroups& groups_;
  const StartupOptions& options_;
  std::vector<Item> items_;
};

}  // namespace

void load_all_models(const std::vector<ModelSpec>& specs, const GpuList& gpus, DeviceGroups& groups, ModelTable& models,
                     const StartupOptions& options) {
  Startup startup(gpus, groups, options);
  for (const ModelSpec& spec : specs) startup.prepare(spec);
  startup.place(models);
}

}  // namespace inferd
