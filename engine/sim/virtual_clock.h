// VirtualClock: time that moves only when told to, so that a simulated day takes seconds.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace inferd {

/// Thread-safe. Starts at one second, so that no valid time equals a default TimePoint.
class VirtualClock final : public Clock {
 public:
  TimePoint now() const override {
    return TimePoint(std::chrono::nanoseconds(now_ns_.load(std::memory_order_relaxed)));
  }
  void advance(double seconds) {
    now_ns_.fetch_add(static_cast<std::int64_t>(seconds * 1e9), std::memory_order_relaxed);
  }

 private:
  std::atomic<std::int64_t> now_ns_{1'000'000'000};
};

}  // namespace inferd
