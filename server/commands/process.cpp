// The process around the daemon: signals as events, descriptor limit, service manager.
#include "server/commands/process.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

#include "base/errors.h"

namespace inferd {
namespace {

extern "C" void on_bus_error(int) {
  static constexpr char kMessage[] = "inferd: a model file was truncated or could not be read while in use\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  ::_exit(static_cast<int>(ExitCode::model_vanished));
}

}  // namespace

ProcessEvents::ProcessEvents() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signals_ < 0 || wake_ < 0) throw FatalError(ExitCode::no_memory, "no file descriptors left for signals");
}

ProcessEvents::~ProcessEvents() {
  ::close(signals_);
  ::close(wake_);
}

ProcessEvents::Event ProcessEvents::wait(std::chrono::milliseconds timeout) {
  pollfd entries[2] = {{signals_, POLLIN, 0}, {wake_, POLLIN, 0}};
  if (::poll(entries, 2, static_cast<int>(timeout.count())) <= 0) return Event::tick;
  if (entries[0].revents != 0) {
    signalfd_siginfo info;
    if (::read(signals_, &info, sizeof info) == sizeof info) {
      return info.ssi_signo == SIGHUP ? Event::reload : Event::terminate;
    }
    return Event::tick;
  }
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
  return Event::woken;
}

void ProcessEvents::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

void install_fault_handlers() {
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = on_bus_error;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

void raise_descriptor_limit(int connections) {
  constexpr rlim_t kOtherDescriptors = 64;  // files, logs, libraries
  const rlim_t needed = static_cast<rlim_t>(connections) + kOtherDescriptors;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return;
  if (limit.rlim_max < needed) {
    throw ConfigError("max_connections: " + std::to_string(connections) + " connections need " +
                      std::to_string(needed) + " file descriptors, and the limit is " + std::to_string(limit.rlim_max) +
                      "; lower max_connections or raise LimitNOFILE");
  }
  limit.rlim_cur = needed;
  setrlimit(RLIMIT_NOFILE, &limit);
}

ServiceManager::ServiceManager() {
  std::uint64_t period_us = 0;
  if (sd_watchdog_enabled(0, &period_us) > 0) watchdog_period_ = std::chrono::milliseconds(period_us / 1000);
}

void ServiceManager::ready(const std::string& status) const { sd_notify(0, ("READY=1\nSTATUS=" + status).c_str()); }

void ServiceManager::reloading() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto now_us = static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
  sd_notify(0, ("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now_us)).c_str());
}

void ServiceManager::stopping() const { sd_notify(0, "STOPPING=1\nSTATUS=draining"); }

void ServiceManager::extend_timeout(std::chrono::seconds by) const {
  sd_notify(0, ("EXTEND_TIMEOUT_USEC=" + std::to_string(by.count() * 1'000'000)).c_str());
}

void ServiceManager::feed_watchdog() const { sd_notify(0, "WATCHDOG=1"); }

}  // namespace inferd
