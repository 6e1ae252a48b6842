// DeviceSampler: tokens drawn where their logits are; the rules lie in device memory, one slot a sequence.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/sampler/sampler.h"
#include "engine/sampler/token_counts.h"
#include "kernels/backend.h"

namespace inferd {

struct DeviceSamplerLimits {
  std::int64_t vocab_size = 0;
  std::int64_t slots = 0;           // sequences at a time
  std::int64_t rows = 0;            // of logits in one step
  std::int64_t context_length = 0;  // the most tokens one sequence may have
};

/// What the rules of one sequence are made of.
struct RuleSource {
  const SamplingParams& params;
  std::span<const TokenCounts::Entry> counts = {};  // of has_penalties(params)
  std::span<const TokenId> stop_ids = {};           // banned before position min_outputs
  std::int64_t min_outputs = 0;
  std::int64_t position = 0;  // output tokens so far
  int top_logprobs = -1;
};

/// The rules are the Sampler's, and so are the random numbers; sums are rounded otherwise, so that log-probabilities
/// differ in their last bits, and a draw that comes within that of a border may fall to the other side.
/// A step: clear, add_row for each row of logits, upload, sample, send_back; later receive and read. Allocates in its
/// constructor only. Engine thread only. Owned by EngineCore; outlived by its backend.
class DeviceSampler {
 public:
  static constexpr int kCopies = 2;  // steps whose results may be under way

  /// `backend` samples rows of limits.vocab_size. Throws MemoryError.
  DeviceSampler(Backend& backend, const DeviceSamplerLimits& limits);

  /// Whether the rules of a request have a form here at all.
  bool takes(const SamplingParams& params, std::span<const TokenId> stop_ids, std::int64_t min_outputs) const;
  /// Whether they have one after `num_tokens` tokens, prompt and output.
  bool takes(const SamplingParams& params, std::int64_t num_tokens) const {
    return num_tokens < counts_capacity_ || counts_capacity_ == limits_.vocab_size || !has_penalties(params);
  }
  /// Makes rules that `takes` holds for. There must be a free slot.
  std::int32_t make_slot(const RuleSource& source);
  /// What is queued by now may still use the slot.
  void free_slot(std::int32_t slot) { free_.push_back(slot); }
  std::int64_t free_slots() const { return static_cast<std::int64_t>(free_.size()); }

  void clear();
  /// The step's next row of logits is drawn from by the rules of `slot`, whose top_logprobs are these; -1: not here.
  void add_row(std::int32_t slot, int top_logprobs);
  std::int64_t rows() const { return static_cast<std::int64_t>(row_slots_.size()); }
  bool draws() const { return draws_; }                       // any row
  bool wants_logprobs() const { return top_logprobs_ >= 0; }  // any row
  void upload();
  /// Queues the draws from [rows(), vocab_size] logits.
  void sample(const Tensor& logits);
  /// The tokens drawn in the newest step, by row, on the device: [limits.rows] i32.
  Tensor drawn() const { return Tensor(results_->data(), DType::i32, {limits_.rows}); }
  /// Queues their way to the host.
  void send_back(int copy);
  /// Waits until that step is computed.
  void receive(int copy);
  /// What was drawn from a row of that step; *out is set on SampleResult::token.
  SampleResult read(int copy, std::int64_t row, int top_logprobs, TokenEvent* out) const;

 private:
  struct Copy {
    std::unique_ptr<HostCopy> memory;
    const std::byte* received = nullptr;
    std::int64_t rows = 0;
  };
  template <typename T>
  T* list(const std::unique_ptr<DeviceBuffer>& memory, std::int32_t slot, std::int64_t capacity) const {
    return static_cast<T*>(memory->data()) + slot * capacity;
  }
  void put_lists(const RuleSource& source, std::int32_t slot, SampleRules* rules);

  Backend& backend_;
  const DeviceSamplerLimits limits_;
  const std::int64_t counts_capacity_;
  std::unique_ptr<DeviceBuffer> rules_, biases_, banned_, counts_;  // [slots] each
  std::unique_ptr<DeviceBuffer> device_slots_, results_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> row_slots_;
  bool draws_ = false;
  int top_logprobs_ = -1;  // the most that a row wants
  std::vector<TokenBias> host_biases_;
  std::vector<std::int32_t> host_banned_;
  std::vector<TokenCount> host_counts_;
  std::array<Copy, kCopies> copies_;
};

}  // namespace inferd
