// The process around the daemon: signals as events, descriptor limit, service manager.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace inferd {

/// Turns signals and a wake-up from other threads into events of one loop. Made before any other thread, so that all
/// inherit its mask. Used by main's thread; wake() by any.
class ProcessEvents {
 public:
  ProcessEvents();
  ~ProcessEvents();
  ProcessEvents(const ProcessEvents&) = delete;

  enum class Event { tick, terminate, reload, woken };
  Event wait(std::chrono::milliseconds timeout);
  void wake();

 private:
  int signals_;
  int wake_;
};

/// Ignores SIGPIPE, makes a fault in a mapped file (truncated while in use) an exit 74 with a line of its own.
void install_fault_handlers();

/// Raises the descriptor limit to what `connections` need. Throws ConfigError if the system does not allow it.
void raise_descriptor_limit(int connections);

/// Talks to systemd; does nothing where there is none. Used by main's thread.
class ServiceManager {
 public:
  ServiceManager();
  void ready(const std::string& status) const;
  void reloading() const;
  void stopping() const;
  void extend_timeout(std::chrono::seconds by) const;
  void feed_watchdog() const;
  /// How often it wants to be fed; nothing if it watches not.
  std::optional<std::chrono::milliseconds> watchdog_period() const { return watchdog_period_; }

 private:
  std::optional<std::chrono::milliseconds> watchdog_period_;
};

}  // namespace inferd
