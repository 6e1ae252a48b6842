// EncoderCore: one encoder with its queue of inputs; batches them by length.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "engine/engine.h"
#include "engine/models/model.h"
#include "engine/scheduler/batch.h"

namespace inferd {

/// The ticket as the engine sees it: a result slot per input. Thread-safe.
class EncodeJob final : public EncodeTicket {
 public:
  explicit EncodeJob(std::vector<EncodeInput> inputs);
  bool wait(std::chrono::milliseconds timeout) override;
  void cancel() override { cancel_.store(true, std::memory_order_relaxed); }
  std::vector<EncodeResult> take() override;

  bool cancel_requested() const { return cancel_.load(std::memory_order_relaxed); }
  const std::vector<EncodeInput>& inputs() const { return inputs_; }
  /// Sets one result; the last one wakes the waiter. Each input exactly once.
  void set(std::size_t index, EncodeResult result);

 private:
  const std::vector<EncodeInput> inputs_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<EncodeResult> results_;
  std::size_t missing_;
  std::atomic<bool> cancel_{false};
};

/// Everything but `check` belongs to one thread. Owned by Engine (or a test).
class EncoderCore {
 public:
  /// Throws MemoryError. The backend outlives the core.
  EncoderCore(std::unique_ptr<EncoderModel> model, Backend& backend, std::int64_t max_queued_inputs);

  /// Why these inputs cannot be served at all, if so. Thread-safe.
  std::optional<Rejection> check(const std::vector<EncodeInput>& inputs) const;
  std::int64_t capacity() const { return max_queued_inputs_; }
  /// Tokens one input may have.
  std::int64_t max_input_tokens() const;
  void add(std::shared_ptr<EncodeJob> job);
  std::int64_t size() const { return static_cast<std::int64_t>(pending_.size()); }

  /// Ends cancelled inputs, then encodes one batch: the oldest input and those of most similar length among the next
  /// ones, up to the model's rows. `at_layer` is called at every layer boundary. True if there was anything to do.
  bool step(const LayerHook& at_layer);
  void finish_all(FinishReason reason);
  const ModelInfo& info() const { return model_->info(); }
  const EncoderModel& model() const { return *model_; }

 private:
  struct Pending {
    std::shared_ptr<EncodeJob> job;
    std::size_t index = 0;
    std::int64_t length = 0;
  };
  void drop_cancelled();
  std::vector<Pending> take_batch();
  void deliver(std::vector<Pending>* batch, const Tensor& vectors);

  const std::unique_ptr<EncoderModel> model_;
  Backend& backend_;
  const std::int64_t max_queued_inputs_;
  Batch batch_;
  std::deque<Pending> pending_;
};

}  // namespace inferd
