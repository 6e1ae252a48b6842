// Metrics: counters and histograms of the API in Prometheus' text format; names are vLLM's where the meaning is.
#include "server/metrics.h"

#include <algorithm>
#include <charconv>

namespace inferd {
namespace {

constexpr double kFirstTokenBounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25, 0.5,
                                        0.75,  1.0,   2.5,  5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0};
constexpr double kTokenBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15,
                                   0.2,   0.3,    0.4,   0.5,  0.75,  1.0,  2.5,   5.0, 10.0};
constexpr double kRequestBounds[] = {0.01, 0.05, 0.1,  0.3,  0.5,  0.8,  1.0,   1.5,   2.0,   2.5,  5.0,
                                     10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0, 480.0, 960.0};

std::string number(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

void type_line(std::string& out, const std::string& name, const char* type, const char* help) {
  out += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void sample(std::string& out, const std::string& name, const std::string& labels, double value) {
  out += name + (labels.empty() ? "" : "{" + labels + "}") + " " + number(value) + "\n";
}

std::string model_label(const std::string& name) {
  std::string label = "model_name=\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') label += '\\';
    label += c;
  }
  return label + "\"";
}

}  // namespace

Histogram::Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1, 0) {}

void Histogram::observe(double seconds) {
  const auto bucket =
      static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), seconds) - bounds_.begin());
  const std::lock_guard lock(mutex_);
  counts_[bucket]++;
  sum_ += seconds;
}

void Histogram::render(std::string& out, const std::string& name, const std::string& labels) const {
  std::vector<std::uint64_t> counts;
  double sum = 0;
  {
    const std::lock_guard lock(mutex_);
    counts = counts_;
    sum = sum_;
  }
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    below += counts[i];
    const std::string bound = i < bounds_.size() ? number(bounds_[i]) : "+Inf";
    sample(out, name + "_bucket", labels + ",le=\"" + bound + "\"", static_cast<double>(below));
  }
  sample(out, name + "_sum", labels, sum);
  sample(out, name + "_count", labels, static_cast<double>(below));
}

ModelMetrics::ModelMetrics(LimitCounters& limit_counters)
    : limits(limit_counters),
      time_to_first_token(kFirstTokenBounds),
      inter_token(kTokenBounds),
      per_output_token(kTokenBounds),
      end_to_end(kRequestBounds),
      queue_time(kRequestBounds) {}

void ModelMetrics::request_ended(double seconds) {
  end_to_end.observe(seconds);
  const double before = recent_request_s_.load(std::memory_order_relaxed);
  recent_request_s_.store(before == 0 ? seconds : 0.8 * before + 0.2 * seconds, std::memory_order_relaxed);
}

Metrics::Metrics(const std::vector<std::string>& model_names) {
  for (const std::string& name : model_names) models_[name] = std::make_unique<ModelMetrics>(limits);
}

void Metrics::count_response(int status) { responses_[static_cast<std::size_t>(std::clamp(status / 100, 0, 5))]++; }

namespace {

/// What the engine knows of each decoder, one value a model.
void render_engine(std::string& out, const std::vector<ModelGauges>& gauges) {
  const auto gauge = [&](const char* name, const char* type, const char* help, auto value) {
    type_line(out, name, type, help);
    for (const ModelGauges& model : gauges) {
      if (!model.is_encoder) sample(out, name, model_label(model.name), static_cast<double>(value(model.stats)));
    }
  };
  using Stats = const DecoderStats&;
  gauge("vllm:num_requests_running", "gauge", "Requests being computed.", [](Stats s) { return s.running; });
  gauge("vllm:num_requests_waiting", "gauge", "Requests waiting to be computed.", [](Stats s) { return s.waiting; });
  gauge("vllm:kv_cache_usage_perc", "gauge", "Share of KV cache blocks in use, 0 to 1.", [](Stats s) {
    return s.kv_blocks_total > 0 ? static_cast<double>(s.kv_blocks_used) / static_cast<double>(s.kv_blocks_total) : 0.0;
  });
  gauge("vllm:num_preemptions_total", "counter", "Requests set back to waiting for lack of KV blocks.",
        [](Stats s) { return s.preemptions; });
  gauge("vllm:spec_decode_num_drafts_total", "counter", "Guesses at next tokens.", [](Stats s) { return s.drafts; });
  gauge("vllm:spec_decode_num_draft_tokens_total", "counter", "Tokens in those guesses.",
        [](Stats s) { return s.draft_tokens; });
  gauge("vllm:spec_decode_num_accepted_tokens_total", "counter", "Guessed tokens that were right.",
        [](Stats s) { return s.accepted_draft_tokens; });
  gauge("inferd:engine_steps_total", "counter", "Steps of the engine.", [](Stats s) { return s.steps; });
  gauge("inferd:requests_cancelled_total", "counter", "Requests whose client left.",
        [](Stats s) { return s.cancelled; });
}

}  // namespace

void Metrics::render_models(std::string& out) const {
  const auto count = [&](const char* name, const char* help, auto value) {
    type_line(out, name, "counter", help);
    for (const auto& [model, metrics] : models_)
      sample(out, name, model_label(model), static_cast<double>(value(*metrics)));
  };
  using Counters = const ModelMetrics&;
  count("vllm:prompt_tokens_total", "Prompt tokens of admitted requests.",
        [](Counters m) { return m.prompt_tokens.load(); });
  count("vllm:generation_tokens_total", "Sampled tokens.", [](Counters m) { return m.output_tokens.load(); });
  count("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
        [](Counters m) { return m.prompt_tokens.load(); });
  count("vllm:prefix_cache_hits_total", "Prompt tokens taken from the prefix cache.",
        [](Counters m) { return m.cached_tokens.load(); });
  count("inferd:requests_rejected_total", "Requests refused because the queue was full.",
        [](Counters m) { return m.rejected.load(); });
  count("inferd:embedding_inputs_total", "Embedded inputs.", [](Counters m) { return m.embedding_inputs.load(); });

  type_line(out, "vllm:request_success_total", "counter", "Ended requests by reason.");
  for (const auto& [model, metrics] : models_) {
    const std::string label = model_label(model) + ",finished_reason=";
    sample(out, "vllm:request_success_total", label + "\"stop\"", static_cast<double>(metrics->stopped));
    sample(out, "vllm:request_success_total", label + "\"length\"", static_cast<double>(metrics->length));
    sample(out, "vllm:request_success_total", label + "\"abort\"", static_cast<double>(metrics->aborted));
    sample(out, "vllm:request_success_total", label + "\"error\"", static_cast<double>(metrics->failed));
  }

  const auto histogram = [&](const char* name, const char* help, auto member) {
    type_line(out, name, "histogram", help);
    for (const auto& [model, metrics] : models_) ((*metrics).*member).render(out, name, model_label(model));
  };
  histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", &ModelMetrics::time_to_first_token);
  histogram("vllm:inter_token_latency_seconds", "Between two tokens of one request.", &ModelMetrics::inter_token);
  histogram("vllm:time_per_output_token_seconds", "Mean time a token of one request after its first.",
            &ModelMetrics::per_output_token);
  histogram("vllm:e2e_request_latency_seconds", "From arrival to the last token.", &ModelMetrics::end_to_end);
  histogram("vllm:request_queue_time_seconds", "From arrival to the first step.", &ModelMetrics::queue_time);
}

std::string Metrics::render(const std::vector<ModelGauges>& gauges, int open_connections, int active_requests,
                            int listener_restarts) const {
  std::string out;
  render_engine(out, gauges);
  render_models(out);
  type_line(out, "inferd:http_responses_total", "counter", "HTTP responses by class.");
  for (std::size_t i = 1; i < responses_.size(); ++i) {
    sample(out, "inferd:http_responses_total", "class=\"" + std::to_string(i) + "xx\"",
           static_cast<double>(responses_[i]));
  }
  type_line(out, "inferd:limit_hits_total", "counter", "Requests and connections that met a limit, by its name.");
  for (std::size_t i = 0; i < std::size(LimitCounters::kNames); ++i) {
    sample(out, "inferd:limit_hits_total", "limit=\"" + std::string(LimitCounters::kNames[i]) + "\"",
           static_cast<double>(limits.get(i)));
  }
  const auto plain = [&](const char* name, const char* type, const char* help, double value) {
    type_line(out, name, type, help);
    sample(out, name, "", value);
  };
  plain("inferd:http_connections", "gauge", "Open connections.", open_connections);
  plain("inferd:http_requests_active", "gauge", "Requests being answered.", active_requests);
  plain("inferd:http_connections_refused_total", "counter", "Connections above max_connections.",
        static_cast<double>(refused_connections));
  plain("inferd:http_auth_failures_total", "counter", "Requests without a valid key.",
        static_cast<double>(auth_failures));
  plain("inferd:http_disconnects_total", "counter", "Clients that left before their answer was complete.",
        static_cast<double>(disconnects));
  plain("inferd:http_listener_restarts_total", "counter", "Times the listener was opened anew.", listener_restarts);
  return out;
}

}  // namespace inferd
