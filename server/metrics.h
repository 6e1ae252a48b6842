// Metrics: counters and histograms of the API in Prometheus' text format; names are vLLM's where the meaning is.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/limits.h"

namespace inferd {

/// A cumulative histogram with fixed bounds in seconds. Thread-safe.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds);
  void observe(double seconds);
  void render(std::string& out, const std::string& name, const std::string& labels) const;

 private:
  const std::span<const double> bounds_;
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> counts_;  // one a bound, and one above all
  double sum_ = 0;
};

/// What is counted per model. Thread-safe.
struct ModelMetrics {
  explicit ModelMetrics(LimitCounters& limit_counters);
  LimitCounters& limits;  // of the whole server
  Histogram time_to_first_token, inter_token, per_output_token, end_to_end, queue_time;
  std::atomic<std::int64_t> prompt_tokens{0}, output_tokens{0}, cached_tokens{0};
  // how requests ended: stop, length, abort, error
  std::atomic<std::int64_t> stopped{0}, length{0}, aborted{0}, failed{0}, rejected{0};
  std::atomic<std::int64_t> embedding_inputs{0};

  /// Mean end-to-end time of late requests, for Retry-After. Seconds; 0 before the first.
  double recent_request_s() const { return recent_request_s_.load(std::memory_order_relaxed); }
  void request_ended(double seconds);

 private:
  std::atomic<double> recent_request_s_{0};
};

/// The engine's view of a model at the moment of rendering.
struct ModelGauges {
  std::string name;
  bool is_encoder = false;
  DecoderStats stats;
};

/// Everything /metrics shows. Thread-safe after construction.
class Metrics {
 public:
  explicit Metrics(const std::vector<std::string>& model_names);
  /// A model of the constructor's list.
  ModelMetrics& model(const std::string& name) { return *models_.at(name); }
  void count_response(int status);
  std::atomic<std::int64_t> refused_connections{0}, auth_failures{0}, disconnects{0};
  LimitCounters limits;

  std::string render(const std::vector<ModelGauges>& gauges, int open_connections, int active_requests,
                     int listener_restarts) const;

 private:
  void render_models(std::string& out) const;

  std::map<std::string, std::unique_ptr<ModelMetrics>> models_;
  std::array<std::atomic<std::int64_t>, 6> responses_{};  // by status / 100
};

}  // namespace inferd
