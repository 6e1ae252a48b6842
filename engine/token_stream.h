// TokenStream: the only object an HTTP thread and the engine thread share per request: tokens down, cancel up.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/request.h"

namespace inferd {

/// What the request turned out to cost, valid once finished.
struct StreamStats {
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt, taken from the prefix cache
  std::int64_t output_tokens = 0;  // every sampled token, the stop token included
  double queue_wait_s = 0;
  double prefill_s = 0;  // admission to first token
  double decode_s = 0;   // first to last token
};

/// Thread-safe. Bounded by max_output_tokens, so push never blocks. Exactly one FinishReason.
class TokenStream {
 public:
  // Engine side.
  void push(TokenEvent event);
  void set_prompt_logprobs(std::vector<TokenEvent> events);  // before the first push; [0] has no logprob
  void finish(FinishReason reason, const StreamStats& stats);
  bool cancel_requested() const { return cancel_.load(std::memory_order_relaxed); }

  // Client side.
  enum class PopResult { token, finished, timeout };
  /// Waits until a token, the end (after all tokens), or `timeout`.
  PopResult pop(TokenEvent* out, std::chrono::milliseconds timeout);
  /// Asks the engine to end this request within one step.
  void cancel() { cancel_.store(true, std::memory_order_relaxed); }
  FinishReason finish_reason() const;
  StreamStats stats() const;
  std::vector<TokenEvent> take_prompt_logprobs();

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenEvent> events_;  // those before next_ are taken; keeps its memory when all are
  std::size_t next_ = 0;
  std::vector<TokenEvent> prompt_logprobs_;
  FinishReason reason_ = FinishReason::none;
  StreamStats stats_;
  std::atomic<bool> cancel_{false};
};

}  // namespace inferd
