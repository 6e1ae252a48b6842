// EncoderCore: a queue of inputs, one batch a step.
#include "engine/encoder_core.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "engine/engine_core.h"

namespace inferd {
namespace {

constexpr std::size_t kLengthWindow = 1024;  // inputs behind the oldest that may ride along with it

EncodeResult failed(FinishReason reason) { return {{}, false, reason}; }

}  // namespace

EncodeJob::EncodeJob(std::vector<EncodeInput> inputs)
    : inputs_(std::move(inputs)), results_(inputs_.size()), missing_(inputs_.size()) {}

bool EncodeJob::wait(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return missing_ == 0; });
}

std::vector<EncodeResult> EncodeJob::take() {
  const std::lock_guard lock(mutex_);
  return std::move(results_);
}

void EncodeJob::set(std::size_t index, EncodeResult result) {
  {
    const std::lock_guard lock(mutex_);
    INFERD_CHECK(missing_ > 0 && results_[index].reason == FinishReason::none);
    results_[index] = std::move(result);
    if (--missing_ > 0) return;
  }
  changed_.notify_all();
}

EncoderCore::EncoderCore(std::unique_ptr<EncoderModel> model, Backend& backend, std::int64_t max_queued_inputs)
    : model_(std::move(model)),
      backend_(backend),
      max_queued_inputs_(max_queued_inputs),
      batch_(backend, {model_->max_batch_tokens(), model_->max_batch_tokens(), 0, 0}) {}

std::int64_t EncoderCore::max_input_tokens() const {
  return std::min(model_->max_sequence_tokens(), model_->max_batch_tokens());
}

std::optional<Rejection> EncoderCore::check(const std::vector<EncodeInput>& inputs) const {
  const std::int64_t vocab = info().vocab_size;
  if (static_cast<std::int64_t>(inputs.size()) > max_queued_inputs_) {
    return Rejection{Rejection::Kind::never_fits, max_queued_inputs_, static_cast<std::int64_t>(inputs.size())};
  }
  for (const EncodeInput& input : inputs) {
    INFERD_CHECK(input.type_ids.empty() || input.type_ids.size() == input.tokens.size());
    if (input.tokens.empty()) return Rejection{Rejection::Kind::bad_token, vocab, -1};
    const auto length = static_cast<std::int64_t>(input.tokens.size());
    if (length > max_input_tokens()) return Rejection{Rejection::Kind::prompt_too_long, max_input_tokens(), length};
    for (const TokenId token : input.tokens) {
      if (token < 0 || token >= vocab) return Rejection{Rejection::Kind::bad_token, vocab, token};
    }
  }
  return std::nullopt;
}

void EncoderCore::add(std::shared_ptr<EncodeJob> job) {
  for (std::size_t i = 0; i < job->inputs().size(); ++i) {
    pending_.push_back({job, i, static_cast<std::int64_t>(job->inputs()[i].tokens.size())});
  }
}

void EncoderCore::drop_cancelled() {
  std::erase_if(pending_, [](const Pending& pending) {
    if (!pending.job->cancel_requested()) return false;
    pending.job->set(pending.index, failed(FinishReason::cancelled));
    return true;
  });
}

std::vector<EncoderCore::Pending> EncoderCore::take_batch() {
  const std::int64_t wanted = pending_.front().length;
  std::vector<std::size_t> order(std::min(pending_.size(), kLengthWindow));
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Stable: among equally distant lengths the older goes first, and the oldest of all always does.
  std::stable_sort(order.begin() + 1, order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(pending_[a].length - wanted) < std::abs(pending_[b].length - wanted);
  });
  std::vector<Pending> batch;
  std::int64_t rows = 0;
  for (const std::size_t at : order) {
    const std::int64_t cost = model_->batch_cost(pending_[at].length);
    if (rows + cost > model_->max_batch_tokens()) break;
    rows += cost;
    batch.push_back(std::move(pending_[at]));
  }
  std::erase_if(pending_, [](const Pending& pending) { return pending.job == nullptr; });
  return batch;
}

void EncoderCore::deliver(std::vector<Pending>* batch, const Tensor& vectors) {
  const std::int64_t columns = model_->embedding_dim();
  INFERD_CHECK(vectors.dim(0) == static_cast<std::int64_t>(batch->size()) && vectors.dim(1) == columns);
  const auto* row = static_cast<const std::byte*>(vectors.data);
  for (Pending& pending : *batch) {
    EncodeResult result;
    result.vector.resize(static_cast<std::size_t>(columns));
    backend_.download(result.vector.data(), row, result.vector.size() * sizeof(float));
    row += static_cast<std::size_t>(vectors.row_stride) * sizeof(float);
    result.ok = std::all_of(result.vector.begin(), result.vector.end(), [](float x) { return std::isfinite(x); });
    result.reason = result.ok ? FinishReason::stop : FinishReason::error;
    if (!result.ok) result.vector.clear();
    pending.job->set(pending.index, std::move(result));
    pending.job.reset();
  }
}

bool EncoderCore::step(const LayerHook& at_layer) {
  drop_cancelled();
  if (pending_.empty()) return false;
  std::vector<Pending> batch = take_batch();
  batch_.clear();
  for (const Pending& pending : batch) {
    const EncodeInput& input = pending.job->inputs()[pending.index];
    batch_.append(input.tokens, 0, {}, input.type_ids);
  }
  const LayerHook hook = [&](int layer) {
    at_layer(layer);
    if (std::all_of(batch.begin(), batch.end(), [](const Pending& p) { return p.job->cancel_requested(); })) {
      throw ForwardAbandoned{};
    }
  };
  try {
    const Tensor vectors = model_->encode(batch_.upload(), hook);
    backend_.synchronize();
    deliver(&batch, vectors);
  } catch (const ForwardAbandoned&) {
    backend_.synchronize();
    for (Pending& pending : batch) pending.job->set(pending.index, failed(FinishReason::cancelled));
  } catch (...) {
    // What was not delivered waits for finish_all.
    std::erase_if(batch, [](const Pending& pending) { return pending.job == nullptr; });
    for (Pending& pending : batch) pending_.push_back(std::move(pending));
    throw;
  }
  return true;
}

void EncoderCore::finish_all(FinishReason reason) {
  for (const Pending& pending : pending_) pending.job->set(pending.index, failed(reason));
  pending_.clear();
}

}  // namespace inferd
