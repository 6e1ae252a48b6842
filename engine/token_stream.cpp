// TokenStream: a mutex, a queue and an end.
#include "engine/token_stream.h"

#include <utility>

#include "base/check.h"

namespace inferd {
namespace {

constexpr std::size_t kMostTaken = 64;  // events of a reader that never quite catches up, kept before they are dropped

}  // namespace

void TokenStream::push(TokenEvent event) {
  {
    const std::lock_guard lock(mutex_);
    INFERD_CHECK(reason_ == FinishReason::none);
    if (next_ > kMostTaken && next_ * 2 > events_.size()) {
      events_.erase(events_.begin(), events_.begin() + static_cast<std::ptrdiff_t>(next_));
      next_ = 0;
    }
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
  const auto ready = [this] { return next_ < events_.size() || reason_ != FinishReason::none; };
  if (!ready() && (timeout.count() <= 0 || !changed_.wait_for(lock, timeout, ready))) return PopResult::timeout;
  if (next_ == events_.size()) return PopResult::finished;
  *out = std::move(events_[next_++]);
  if (next_ == events_.size()) {
    events_.clear();
    next_ = 0;
  }
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
