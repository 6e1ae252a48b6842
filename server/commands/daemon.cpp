// Daemon: one run of `inferd serve`: listen, load, serve, reload, drain.
#include "server/commands/daemon.h"

#include <unistd.h>

#include "base/errors.h"
#include "base/log.h"
#include "server/commands/commands.h"
#include "server/commands/serve_options.h"
#include "server/model_startup.h"

namespace inferd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kTick(1000);
constexpr milliseconds kDrainTick(20);
constexpr double kLastAnswersS = 2.0;  // after the engine has ended, how long connections may take to write the end

std::vector<std::string> model_names(const Settings& settings) {
  std::vector<std::string> names;
  for (const ModelSettings& model : settings.models) names.push_back(model.name);
  return names;
}

std::string url_host(const std::string& host) { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }

}  // namespace

Daemon::Daemon(const ServeFlags& flags, const Settings& settings, const GpuList& gpus)
    : flags_(flags),
      settings_(settings),
      gpus_(gpus),
      devices_(clock_, device_options(settings)),
      metrics_(model_names(settings)),
      app_(metrics_, api_options(settings), access_options(settings)),
      dispatcher_(app_),
      http_(http_options(settings), dispatcher_) {
  if (!settings.api_key_file.empty()) {
    app_.set_keys(ApiKeys::read(settings.api_key_file));
    spdlog::info("{} API keys from {}", app_.keys()->size(), log_safe(settings.api_key_file));
  } else if (settings.allow_unauthenticated) {
    spdlog::warn("allow_unauthenticated: everyone who reaches this address may use it");
  }
  app_.connection_counts = [this](int* open, int* active, int* restarts) {
    *open = http_.open_connections();
    *active = http_.active_requests();
    *restarts = http_.restarts();
  };
  const int port = http_.start();
  spdlog::info("listening on http://{}:{}", url_host(settings.host), port);
}

Daemon::~Daemon() {
  if (loader_.joinable()) loader_.join();
}

void Daemon::load_models() {
  try {
    StartupOptions options{.max_queued_inputs = settings_.max_queued_inputs,
                           .weight_cache = weight_cache(settings_, process_environment()),
                           .threads = static_cast<int>(settings_.threads),
                           .build = version_text(),
                           .progress = {}};
    options.progress = [this](const std::string& model, std::size_t done, std::size_t total) {
      {
        const std::lock_guard lock(loading_name_mutex_);
        loading_name_ = model;
      }
      load_done_bytes_ = done;
      load_total_bytes_ = total;
    };
    const std::vector<ModelSpec> specs = model_specs(settings_);
    load_all_models(specs, gpus_, devices_, app_.models, options);
    for (const AdapterSettings& adapter : settings_.adapters) {
      serve_adapter(app_.models, *app_.models.find(adapter.base), adapter.name, open_adapter(adapter.path));
    }
    for (const std::string& alias : settings_.aliases) {
      const auto equals = alias.find('=');
      app_.models.add_alias(alias.substr(0, equals), alias.substr(equals + 1));
    }
  } catch (...) {
    load_error_ = std::current_exception();
  }
  loaded_ = true;
  events_.wake();
}

void Daemon::finish_loading() {
  loader_.join();
  if (load_error_) std::rethrow_exception(load_error_);
  for (const auto& model : app_.models.all()) log_served_model(*model);
  devices_.start();
  app_.state.store(ServerState::ready, std::memory_order_release);
  spdlog::info("ready");
  service_.ready("serving");
}

std::chrono::milliseconds Daemon::tick_period() const {
  const auto watchdog = service_.watchdog_period();
  return watchdog ? std::min(kTick, *watchdog / 3) : kTick;
}

void Daemon::tick() {
  if (still_loading()) {
    const TimePoint now = clock_.now();
    if (now - last_extension_ < seconds(5)) return;
    if (last_extension_ != TimePoint{}) {
      const std::lock_guard lock(loading_name_mutex_);
      const double share =
          static_cast<double>(load_done_bytes_) / static_cast<double>(std::max<std::size_t>(load_total_bytes_, 1));
      spdlog::info("loading {}: {:.0f}%", log_safe(loading_name_), share * 100);
    }
    last_extension_ = now;
    service_.extend_timeout(seconds(60));
    service_.feed_watchdog();
    return;
  }
  watch_engine();
}

/// Feeds the watchdog for as long as the engine makes progress; a stuck or failed engine ends the process, for a
/// service manager to start a fresh one.
void Daemon::watch_engine() {
  const std::string failure = devices_.failure();
  const double silent_s = std::chrono::duration<double>(clock_.now() - devices_.last_progress()).count();
  if (failure.empty() && silent_s < settings_.stuck_s) {
    service_.feed_watchdog();
    return;
  }
  app_.state = ServerState::failed;
  spdlog::critical(
      "{}", failure.empty() ? "the engine has made no progress for " + std::to_string(static_cast<int>(silent_s)) + " s"
                            : "the engine failed: " + log_safe(failure));
  if (!failure.empty()) {
    // What other engines run ends with an error too; a step of theirs that lasts longer is not waited for.
    std::thread([this] { devices_.stop(); }).detach();
    http_.stop(kLastAnswersS);
  }
  // A stuck engine thread cannot be joined.
  ::_exit(static_cast<int>(failure.empty() ? ExitCode::internal : devices_.failure_code()));
}

void Daemon::reload() {
  service_.reloading();
  try {
    const Settings fresh = load_settings(flags_, process_environment());
    const auto keys = fresh.api_key_file.empty() ? nullptr : ApiKeys::read(fresh.api_key_file);
    if (keys == nullptr && app_.keys() != nullptr && !is_loopback_host(settings_.host) &&
        !fresh.allow_unauthenticated) {
      throw ConfigError("api_key_file: an open address needs keys");
    }
    app_.set_keys(keys);
    spdlog::set_level(spdlog::level::from_str(fresh.log_level));
    spdlog::info("reloaded: {} API keys, log level {}; other settings need a restart", keys ? keys->size() : 0,
                 fresh.log_level);
  } catch (const FatalError& error) {
    spdlog::error("reload failed, the old settings stay: {}", log_safe(error.what()));
  }
  service_.ready("serving");
}

int Daemon::drain() {
  service_.stopping();
  app_.state = ServerState::draining;
  devices_.begin_drain();
  spdlog::info("draining: {} requests have up to {} s", http_.active_requests(), settings_.drain_s);
  const TimePoint deadline = clock_.now() + std::chrono::duration_cast<std::chrono::nanoseconds>(
                                                std::chrono::duration<double>(settings_.drain_s));
  while (clock_.now() < deadline && (!devices_.idle() || http_.active_requests() > 0)) {
    if (events_.wait(kDrainTick) == ProcessEvents::Event::terminate) {
      spdlog::warn("second signal: ending at once");
      ::_exit(static_cast<int>(ExitCode::ok));
    }
    service_.feed_watchdog();
  }
  devices_.stop();  // what still runs ends with an error event
  http_.stop(kLastAnswersS);
  spdlog::info("stopped");
  return static_cast<int>(ExitCode::ok);
}

int Daemon::run() {
  loader_ = std::thread([this] { load_models(); });
  for (;;) {
    const auto event = events_.wait(tick_period());
    if (loaded_ && still_loading()) finish_loading();
    switch (event) {
      case ProcessEvents::Event::terminate:
        if (!still_loading()) return drain();
        spdlog::info("stopped while loading");
        ::_exit(static_cast<int>(ExitCode::ok));  // loading cannot be interrupted, and has nothing to save
      case ProcessEvents::Event::reload:
        reload();
        break;
      case ProcessEvents::Event::tick:
      case ProcessEvents::Event::woken:
        tick();
        break;
    }
  }
}

}  // namespace inferd
