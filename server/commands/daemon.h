// Daemon: one run of `inferd serve`: listen, load, serve, reload, drain.
#pragma once

#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "config/load_settings.h"
#include "server/app.h"
#include "server/commands/process.h"
#include "server/device_groups.h"
#include "server/dispatcher.h"
#include "server/http_server.h"

namespace inferd {

/// Owns everything that serves. Used by main's thread.
class Daemon {
 public:
  /// Listens at once, so that /health answers while models load. Throws FatalErrors.
  Daemon(const ServeFlags& flags, const Settings& settings, const GpuList& gpus);
  ~Daemon();

  /// Loads, serves until a signal, drains. Returns the exit code.
  int run();

 private:
  void load_models();  // on the loader thread
  void finish_loading();
  bool still_loading() const { return app_.state == ServerState::loading; }
  void tick();
  void watch_engine();
  void reload();
  int drain();
  std::chrono::milliseconds tick_period() const;

  const ServeFlags flags_;
  const Settings settings_;
  ProcessEvents events_;
  ServiceManager service_;
  const SystemClock clock_;
  const GpuList gpus_;
  DeviceGroups devices_;
  Metrics metrics_;
  App app_;
  Dispatcher dispatcher_;
  HttpServer http_;

  std::thread loader_;
  std::atomic<bool> loaded_{false};
  std::exception_ptr load_error_;  // set before loaded_
  std::atomic<std::size_t> load_done_bytes_{0}, load_total_bytes_{0};
  std::mutex loading_name_mutex_;
  std::string loading_name_;
  TimePoint last_extension_{};
};

}  // namespace inferd
