// Budget: the fuel, time and memory of one render.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace inferd::jinja {

/// One per render, used by its thread alone; outlives every Value made in that render.
class Budget {
 public:
  Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// Uses `count` units of fuel, and looks at the clock now and then. Throws TemplateError.
  void step(std::int64_t count = 1) {
    steps_ += count;
    if (steps_ >= next_check_) check();
  }
  /// Fuel for touching `bytes` bytes of text.
  void touch(std::size_t bytes) { step(static_cast<std::int64_t>(bytes / 512)); }
  /// Counts memory before it is taken. Throws TemplateError.
  void take(std::size_t bytes);
  void give_back(std::size_t bytes) noexcept { live_bytes_ -= bytes; }

 private:
  void check();

  std::int64_t steps_ = 0;
  std::int64_t next_check_;
  std::int64_t deadline_ns_;
  std::size_t live_bytes_ = 0;
};

/// Memory of one object, counted while the object lives; counts nothing without a budget (constants, input).
class Charge {
 public:
  explicit Charge(Budget* budget = nullptr) : budget_(budget) {}
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (budget_ != nullptr) budget_->give_back(bytes_);
  }
  void add(std::size_t bytes) {
    if (budget_ == nullptr) return;
    budget_->take(bytes);
    bytes_ += bytes;
  }

 private:
  Budget* budget_;
  std::size_t bytes_ = 0;
};

}  // namespace inferd::jinja
