// LimitCounters: how often each limit was met, under the names of the settings or request fields that hold them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace inferd {

/// Counts by name, fixed at build time so that the series are bounded and exist from the start. Thread-safe.
class LimitCounters {
 public:
  static constexpr std::string_view kNames[] = {
      // settings
      "max_connections", "max_header_bytes", "header_timeout_s", "max_body_bytes", "body_timeout_s", "write_timeout_s",
      "max_messages", "max_tools", "max_queued_requests", "max_queued_inputs", "queue_wait_s", "request_deadline_s",
      "drain_s", "context_length",
      // fixed limits of request bodies
      "json", "n", "prompt", "input", "documents", "tokens", "stop", "stop_token_ids", "logit_bias", "logprobs",
      "top_logprobs", "prompt_logprobs", "chat_template_kwargs"};

  /// A name that is not in the list counts nothing.
  void count(std::string_view name) {
    for (std::size_t i = 0; i < std::size(kNames); ++i) {
      if (kNames[i] == name) counts_[i].fetch_add(1, std::memory_order_relaxed);
    }
  }
  std::int64_t get(std::size_t index) const { return counts_[index].load(std::memory_order_relaxed); }

 private:
  std::array<std::atomic<std::int64_t>, std::size(kNames)> counts_{};
};

}  // namespace inferd
