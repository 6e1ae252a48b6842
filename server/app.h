// App: what endpoints share: models, options, keys, metrics, and whether requests are taken.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/auth.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/served_model.h"

namespace inferd {

enum class ServerState { loading, ready, draining, failed };

/// Owned by main. Thread-safe: models and options do not change once the state is ready, keys are swapped whole.
struct App {
  App(Metrics& shared_metrics, ApiOptions api_options, AccessOptions access_options)
      : metrics(shared_metrics), api(std::move(api_options)), access(std::move(access_options)) {}

  Metrics& metrics;
  const ApiOptions api;
  const AccessOptions access;
  ModelTable models;  // complete before state becomes ready
  std::atomic<ServerState> state{ServerState::loading};
  std::function<void(int* open, int* active, int* restarts)> connection_counts;  // or empty

  std::shared_ptr<const ApiKeys> keys() const {
    const std::lock_guard lock(keys_mutex_);
    return keys_;
  }
  void set_keys(std::shared_ptr<const ApiKeys> keys) {
    const std::lock_guard lock(keys_mutex_);
    keys_ = std::move(keys);
  }

 private:
  mutable std::mutex keys_mutex_;
  std::shared_ptr<const ApiKeys> keys_;  // null: everyone may call
};

}  // namespace inferd
