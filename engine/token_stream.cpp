// TokenStream: a mutex, a queue and an end.
#include "engine/token_stream.h"

#include <utility>

#include "base/check.h"

namespace inferd {

void TokenStream::push(TokenEvent event) {
  {
    const std::lock_guard lock(mutex_);
    INFERD_CHECK(reason_ == FinishReason::none);
    events_.push_back(std::move(event));
  }
  changed_.notify_all();
}

void TokenStream::set_prompt_logprobs(std::vector<TokenEvent> events) {
  const std::lock_guard lock(mutex_);
  prompt_logprobs_ = std::move(events);
}

void TokenStream::finish(FinishReason reason, const StreamStats& stats) {
  {
    const std::lock_guard lock(mutex_);
    INFERD_CHECK(reason != FinishReason::none && reason_ == FinishReason::none);
    reason_ = reason;
    stats_ = stats;
  }
  changed_.notify_all();
}

TokenStream::PopResult TokenStream::pop(TokenEvent* out, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return !events_.empty() || reason_ != FinishReason::none; };
  if (!ready() && (timeout.count() <= 0 || !changed_.wait_for(lock, timeout, ready))) return PopResult::timeout;
  if (events_.empty()) return PopResult::finished;
  *out = std::move(events_.front());
  events_.pop_front();
  return PopResult::token;
}

FinishReason TokenStream::finish_reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

StreamStats TokenStream::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::vector<TokenEvent> TokenStream::take_prompt_logprobs() {
  const std::lock_guard lock(mutex_);
  return std::exchange(prompt_logprobs_, {});
}

}  // namespace inferd
