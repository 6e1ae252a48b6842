// DeviceBackend: another backend's operations on a device that queues, captures, and draws tokens, as a GPU does.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/sampler/sampler.h"
#include "kernels/backend.h"
#include "tests/catch.h"

namespace inferd {

struct DeviceTraits {
  bool captures = true;
  bool samples = true;
  bool late = false;  // what is queued is done when somebody waits for it, and no further than that
};

/// Operations of a captured key are kept with their arguments as they were, and run again from there. Nothing that is
/// queued sees what the host changes later. Tokens are drawn by the host's Sampler, so that they are the very same.
class DeviceBackend final : public Backend {
 public:
  DeviceBackend(std::unique_ptr<Backend> inner, const DeviceTraits& traits)
      : inner_(std::move(inner)), traits_(traits) {}
  ~DeviceBackend() override { CHECK(recording_ == nullptr); }

  std::string name() const override { return "device over " + inner_->name(); }
  std::size_t available_bytes() const override { return std::size_t{1} << 30; }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override {
    return std::make_unique<Buffer>(*this, inner_->allocate(bytes));
  }
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override {
    return inner_->load_weight(parts, options);
  }
  std::unique_ptr<LowRank> load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                         std::int64_t columns) override {
    return inner_->load_low_rank(parts, rows, columns);
  }
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override {
    return inner_->activation_bytes(rows, columns, forms);
  }
  void reserve_workspace(std::int64_t tokens, std::int64_t columns) override {
    run_all();
    inner_->reserve_workspace(tokens, columns);
  }

  void upload(void* device, const void* host, std::size_t bytes) override {
    CHECK(recording_ == nullptr);
    const auto* from = static_cast<const std::byte*>(host);
    queue([this, device, data = std::vector<std::byte>(from, from + bytes)] {
      inner_->upload(device, data.data(), data.size());
    });
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    CHECK(recording_ == nullptr);
    ++downloads;
    run_all();
    inner_->download(host, device, bytes);
  }
  void synchronize() override {
    CHECK(recording_ == nullptr);
    run_all();
  }

  bool captures() const override { return traits_.captures; }
  void captured(std::uint64_t key, const std::function<void()>& work) override {
    const auto [at, fresh] = recorded_.try_emplace(key);
    if (fresh) {
      recording_ = &at->second;
      work();
      recording_ = nullptr;
    } else {
      ++replays;
    }
    for (const auto& operation : at->second) queue(operation);
  }

  bool samples(std::int64_t) const override { return traits_.samples; }
  std::unique_ptr<HostCopy> host_copy(std::size_t bytes) override { return std::make_unique<Copy>(*this, bytes); }

  void embedding(const EmbeddingArgs& args) override { run(args, &Backend::embedding); }
  void norm(const NormArgs& args) override { run(args, &Backend::norm); }
  void to_activation(const ToActivationArgs& args) override { run(args, &Backend::to_activation); }
  void linear(const LinearArgs& args) override { run(args, &Backend::linear); }
  void lora(const LoraArgs& args) override {
    record([this, args, updates = std::vector<const LowRank*>(args.updates, args.updates + args.num_updates)] {
      LoraArgs again = args;
      again.updates = updates.data();
      inner_->lora(again);
    });
  }
  void rope_table(const RopeTableArgs& args) override { run(args, &Backend::rope_table); }
  void qkv_post(const QkvPostArgs& args) override { run(args, &Backend::qkv_post); }
  void gather_rows(const GatherRowsArgs& args) override { run(args, &Backend::gather_rows); }
  std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts) override {
    return inner_->group_experts(experts);
  }
  void route(const RouteArgs& args) override { run(args, &Backend::route); }
  void gather_activation(const GatherActivationArgs& args) override { run(args, &Backend::gather_activation); }
  void expert_linear(const ExpertLinearArgs& args) override { run_plan(args, &Backend::expert_linear); }
  void combine_experts(const CombineExpertsArgs& args) override { run_plan(args, &Backend::combine_experts); }
  void attention(const AttentionArgs& args) override { run_batch(args, &Backend::attention); }
  void encoder_attention(const EncoderAttentionArgs& args) override { run_batch(args, &Backend::encoder_attention); }
  void pool(const PoolArgs& args) override { run_batch(args, &Backend::pool); }
  void sample(const SampleArgs& args) override {
    record([this, args] { sample_now(args); });
  }
  void take_tokens(const TakeTokensArgs& args) override {
    record([args] {
      for (std::int64_t t = 0; t < args.tokens.dim(0); ++t) {
        const std::int32_t source = args.sources.as<std::int32_t>()[t];
        if (source >= 0) args.tokens.as<std::int32_t>()[t] = args.drawn.as<std::int32_t>()[source];
      }
    });
  }

  int replays = 0;
  int drawn = 0;       // tokens
  int downloads = 0;   // for which everything had to be waited
  int unfinished = 0;  // copies that were waited for while more was queued behind them
  std::size_t keys() const { return recorded_.size(); }

 private:
  class Buffer final : public DeviceBuffer {
   public:
    Buffer(DeviceBackend& backend, std::unique_ptr<DeviceBuffer> memory)
        : backend_(backend), memory_(std::move(memory)) {}
    ~Buffer() override { backend_.run_all(); }
    Buffer(const Buffer&) = delete;
    void* data() const override { return memory_->data(); }
    std::size_t bytes() const override { return memory_->bytes(); }

   private:
    DeviceBackend& backend_;
    std::unique_ptr<DeviceBuffer> memory_;
  };

  class Copy final : public HostCopy {
   public:
    Copy(DeviceBackend& backend, std::size_t bytes) : backend_(backend), data_(bytes) {}
    ~Copy() override { backend_.run_all(); }
    Copy(const Copy&) = delete;
    void start(const void* device, std::size_t bytes) override {
      REQUIRE(bytes <= data_.size());
      std::fill(data_.begin(), data_.end(), std::byte{0xee});
      backend_.queue([this, device, bytes] { std::memcpy(data_.data(), device, bytes); });
      end_ = backend_.queued_;
    }
    const std::byte* wait() override {
      backend_.run_until(end_);
      if (!backend_.queue_.empty()) ++backend_.unfinished;
      return data_.data();
    }

   private:
    DeviceBackend& backend_;
    std::vector<std::byte> data_;
    std::int64_t end_ = 0;
  };

  void queue(std::function<void()> work) {
    ++queued_;
    if (!traits_.late) {
      work();
      ++done_;
      return;
    }
    queue_.push_back(std::move(work));
  }
  void run_until(std::int64_t end) {
    for (; done_ < end; ++done_) {
      const auto work = std::move(queue_.front());
      queue_.pop_front();
      work();
    }
  }
  void run_all() { run_until(queued_); }
  void record(std::function<void()> work) {
    if (recording_ != nullptr) {
      recording_->push_back(std::move(work));
    } else {
      queue(std::move(work));
    }
  }
  template <typename Args>
  void run(const Args& args, void (Backend::*operation)(const Args&)) {
    record([this, args, operation] { (inner_.get()->*operation)(args); });
  }
  /// A launch takes the numbers of its batch with it.
  template <typename Args>
  void run_batch(const Args& args, void (Backend::*operation)(const Args&)) {
    record([this, args, batch = *args.batch, operation] {
      Args again = args;
      again.batch = &batch;
      (inner_.get()->*operation)(again);
    });
  }

  template <typename Args>
  void run_plan(const Args& args, void (Backend::*operation)(const Args&)) {
    record([this, args, plan = *args.plan, operation] {
      Args again = args;
      again.plan = &plan;
      (inner_.get()->*operation)(again);
    });
  }

  void sample_now(const SampleArgs& args) {
    for (std::int64_t row = 0; row < args.logits.dim(0); ++row) {
      const std::int32_t slot = args.slots.as<std::int32_t>()[row];
      if (slot < 0) continue;
      for (std::int64_t other = 0; other < row; ++other) REQUIRE(args.slots.as<std::int32_t>()[other] != slot);
      draw_row(args, row, args.rules[slot]);
    }
  }

  void draw_row(const SampleArgs& args, std::int64_t row, SampleRules& rules) {
    const auto vocab = static_cast<std::size_t>(args.logits.dim(1));
    float* logits = args.logits.as<float>() + row * args.logits.row_stride;
    Sampler sampler(args.logits.dim(1));
    std::copy(logits, logits + vocab, sampler.row().begin());
    std::fill(logits, logits + vocab, std::numeric_limits<float>::quiet_NaN());  // nobody looks at it any more
    SamplingParams params;
    params.temperature = rules.temperature;
    params.top_k = rules.top_k;
    params.top_p = rules.top_p;
    params.min_p = rules.min_p;
    params.repetition_penalty = rules.repetition_penalty;
    params.presence_penalty = rules.presence_penalty;
    params.frequency_penalty = rules.frequency_penalty;
    params.seed = static_cast<std::int64_t>(rules.seed);
    for (int i = 0; i < rules.num_biases; ++i)
      params.logit_bias.emplace_back(rules.biases[i].token, rules.biases[i].bias);
    TokenCounts counts;
    for (int i = 0; i < rules.num_counts; ++i) {
      counts.add_prompt(rules.counts[i].token);
      for (int n = 0; n < rules.counts[i].in_output; ++n) counts.add_output(rules.counts[i].token);
    }
    const std::size_t bans = rules.position < rules.banned_until ? static_cast<std::size_t>(rules.num_banned) : 0;
    const bool notes = args.logprobs && rules.top_logprobs >= 0;
    const SampleInput input{.params = params,
                            .counts = &counts,
                            .banned = {rules.banned, bans},
                            .position = rules.position,
                            .top_logprobs = notes ? rules.top_logprobs : -1};
    TokenEvent event;
    const SampleResult result = sampler.sample(input, &event);
    args.status.as<std::int32_t>()[row] =
        static_cast<std::int32_t>(result == SampleResult::token        ? SampleStatus::token
                                  : result == SampleResult::all_banned ? SampleStatus::all_banned
                                                                       : SampleStatus::not_finite);
    args.tokens.as<std::int32_t>()[row] = result == SampleResult::token ? event.token : 0;
    if (result != SampleResult::token) return;
    ++drawn;
    ++rules.position;
    count(event.token, &rules);
    if (!notes) return;
    args.logprobs.as<float>()[row] = event.logprob;
    for (std::size_t i = 0; i < event.top.size(); ++i) {
      const auto at = static_cast<std::size_t>(row) * kSampleTopLogprobs + i;
      args.top_tokens.as<std::int32_t>()[at] = event.top[i].token;
      args.top_logprobs.as<float>()[at] = event.top[i].logprob;
    }
  }

  static void count(TokenId token, SampleRules* rules) {
    for (int i = 0; i < rules->num_counts; ++i) {
      if (rules->counts[i].token != token) continue;
      ++rules->counts[i].in_output;
      return;
    }
    if (rules->num_counts < rules->counts_capacity) rules->counts[rules->num_counts++] = {token, 1, 0.0f};
  }

  std::unique_ptr<Backend> inner_;
  const DeviceTraits traits_;
  std::map<std::uint64_t, std::vector<std::function<void()>>> recorded_;
  std::vector<std::function<void()>>* recording_ = nullptr;
  std::deque<std::function<void()>> queue_;
  std::int64_t queued_ = 0;
  std::int64_t done_ = 0;
};

}  // namespace inferd
