// ProfilingBackend: a backend that times every operation it hands on to another one. For measurements only.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace inferd::bench {

/// What one kind of operation has cost so far.
struct OpCost {
  double seconds = 0;
  std::int64_t calls = 0;
  double least = 1e9;       // seconds of the fastest call: what others on the machine disturb least
  double weight_bytes = 0;  // of linear layers: packed bytes read
  double operations = 0;    // and multiplications + additions
  double experts = 0;       // that had rows, of mixtures
};

/// Linear layers are told apart by their shape, everything else by the operation. Waits for each operation to end.
class ProfilingBackend final : public Backend {
 public:
  explicit ProfilingBackend(Backend& inner) : inner_(inner) {}
  const std::map<std::string, OpCost>& costs() const { return costs_; }
  void clear() { costs_.clear(); }

  std::string name() const override { return inner_.name(); }
  std::size_t available_bytes() const override { return inner_.available_bytes(); }
  bool keeps_kv(DType dtype) const override { return inner_.keeps_kv(dtype); }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override { return inner_.allocate(bytes); }
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override {
    return inner_.load_weight(parts, options);
  }
  std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts) override {
    auto group = inner_.group_experts(experts);
    if (group) groups_[group.get()] = experts[0];  // all have its shape, and nearly its bytes
    return group;
  }
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override {
    return inner_.activation_bytes(rows, columns, forms);
  }
  void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) override {
    inner_.reserve_workspace(max_tokens, max_columns);
  }
  void upload(void* device, const void* host, std::size_t bytes) override { inner_.upload(device, host, bytes); }
  void download(void* host, const void* device, std::size_t bytes) override { inner_.download(host, device, bytes); }
  void synchronize() override { inner_.synchronize(); }

  void embedding(const EmbeddingArgs& args) override {
    timed("embedding", [&] { inner_.embedding(args); });
  }
  void norm(const NormArgs& args) override {
    timed("norm", [&] { inner_.norm(args); });
  }
  void to_activation(const ToActivationArgs& args) override {
    timed("to_activation", [&] { inner_.to_activation(args); });
  }
  void linear(const LinearArgs& args) override {
    const std::int64_t rows = args.weight->rows(), columns = args.weight->columns();
    OpCost& cost =
        timed("linear " + std::to_string(rows) + "x" + std::to_string(columns), [&] { inner_.linear(args); });
    cost.weight_bytes += static_cast<double>(args.weight->bytes());
    cost.operations +=
        2.0 * static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(args.num_tokens);
  }
  void rope_table(const RopeTableArgs& args) override {
    timed("rope_table", [&] { inner_.rope_table(args); });
  }
  void qkv_post(const QkvPostArgs& args) override {
    timed("qkv_post", [&] { inner_.qkv_post(args); });
  }
  void attention(const AttentionArgs& args) override {
    timed("attention", [&] { inner_.attention(args); });
  }
  void encoder_attention(const EncoderAttentionArgs& args) override {
    timed("encoder_attention", [&] { inner_.encoder_attention(args); });
  }
  void route(const RouteArgs& args) override {
    timed("route", [&] { inner_.route(args); });
  }
  void gather_activation(const GatherActivationArgs& args) override {
    timed("gather_activation", [&] { inner_.gather_activation(args); });
  }
  void expert_linear(const ExpertLinearArgs& args) override {
    const Weight& one = *groups_.at(args.group);
    OpCost& cost = timed("experts " + std::to_string(one.rows()) + "x" + std::to_string(one.columns()),
                         [&] { inner_.expert_linear(args); });
    std::vector<std::int32_t> counts(static_cast<std::size_t>(args.plan->counts.dim(0)));
    inner_.download(counts.data(), args.plan->counts.data, counts.size() * sizeof(std::int32_t));
    for (const std::int32_t rows : counts) {
      if (rows == 0) continue;
      cost.weight_bytes += static_cast<double>(one.bytes());
      cost.operations += 2.0 * static_cast<double>(one.rows()) * static_cast<double>(one.columns()) * rows;
      ++cost.experts;
    }
  }
  void combine_experts(const CombineExpertsArgs& args) override {
    timed("combine_experts", [&] { inner_.combine_experts(args); });
  }
  void gather_rows(const GatherRowsArgs& args) override {
    timed("gather_rows", [&] { inner_.gather_rows(args); });
  }
  void pool(const PoolArgs& args) override {
    timed("pool", [&] { inner_.pool(args); });
  }

 private:
  template <typename Operation>
  OpCost& timed(const std::string& name, const Operation& operation) {
    const auto begin = std::chrono::steady_clock::now();
    operation();
    inner_.synchronize();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    OpCost& cost = costs_[name];
    cost.seconds += seconds;
    cost.least = std::min(cost.least, seconds);
    ++cost.calls;
    return cost;
  }

  Backend& inner_;
  std::map<std::string, OpCost> costs_;
  std::map<const ExpertGroup*, const Weight*> groups_;
};

}  // namespace inferd::bench
