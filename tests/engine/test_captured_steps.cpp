// Steps that only decode, captured once and replayed: a backend that records operations stands for CUDA graphs.
#include <functional>
#include <map>

#include "engine/adapters/lora_adapter.h"
#include "tests/engine/golden_core.h"

namespace inferd {
namespace {

/// The CPU's operations; those of a captured key are kept with their arguments as they were, and run again from there.
class RecordingBackend final : public Backend {
 public:
  RecordingBackend() : cpu_(make_cpu_backend({.threads = 2})) {}
  std::string name() const override { return "recording"; }
  std::size_t available_bytes() const override { return std::size_t{1} << 30; }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override { return cpu_->allocate(bytes); }
  std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) override {
    return cpu_->load_weight(parts, options);
  }
  std::unique_ptr<LowRank> load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                         std::int64_t columns) override {
    return cpu_->load_low_rank(parts, rows, columns);
  }
  std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const override {
    return cpu_->activation_bytes(rows, columns, forms);
  }
  void reserve_workspace(std::int64_t tokens, std::int64_t columns) override {
    cpu_->reserve_workspace(tokens, columns);
  }
  void upload(void* device, const void* host, std::size_t bytes) override {
    CHECK(recording_ == nullptr);
    cpu_->upload(device, host, bytes);
  }
  void download(void* host, const void* device, std::size_t bytes) override {
    CHECK(recording_ == nullptr);
    cpu_->download(host, device, bytes);
  }
  void synchronize() override { CHECK(recording_ == nullptr); }

  bool captures() const override { return true; }
  void captured(std::uint64_t key, const std::function<void()>& work) override {
    const auto [at, fresh] = recorded_.try_emplace(key);
    if (fresh) {
      recording_ = &at->second;
      work();
      recording_ = nullptr;
      return;
    }
    ++replays;
    for (const auto& operation : at->second) operation();
  }

  void embedding(const EmbeddingArgs& args) override { run(args, &Backend::embedding); }
  void norm(const NormArgs& args) override { run(args, &Backend::norm); }
  void to_activation(const ToActivationArgs& args) override { run(args, &Backend::to_activation); }
  void linear(const LinearArgs& args) override { run(args, &Backend::linear); }
  void lora(const LoraArgs& args) override { run(args, &Backend::lora); }
  void rope_table(const RopeTableArgs& args) override { run(args, &Backend::rope_table); }
  void qkv_post(const QkvPostArgs& args) override { run(args, &Backend::qkv_post); }
  void gather_rows(const GatherRowsArgs& args) override { run(args, &Backend::gather_rows); }
  void attention(const AttentionArgs& args) override { run_batch(args, &Backend::attention); }
  void encoder_attention(const EncoderAttentionArgs& args) override { run_batch(args, &Backend::encoder_attention); }
  void pool(const PoolArgs& args) override { run_batch(args, &Backend::pool); }

  int replays = 0;
  std::size_t keys() const { return recorded_.size(); }

 private:
  template <typename Args>
  void run(const Args& args, void (Backend::*operation)(const Args&)) {
    if (recording_ != nullptr) recording_->push_back([this, args, operation] { (cpu_.get()->*operation)(args); });
    (cpu_.get()->*operation)(args);
  }
  /// A launch takes the numbers of its batch with it.
  template <typename Args>
  void run_batch(const Args& args, void (Backend::*operation)(const Args&)) {
    if (recording_ != nullptr) {
      recording_->push_back([this, args, batch = *args.batch, operation] {
        Args again = args;
        again.batch = &batch;
        (cpu_.get()->*operation)(again);
      });
    }
    (cpu_.get()->*operation)(args);
  }

  std::unique_ptr<Backend> cpu_;
  std::map<std::uint64_t, std::vector<std::function<void()>>> recorded_;
  std::vector<std::function<void()>>* recording_ = nullptr;
};

EngineOptions options_with(std::int64_t blocks_bytes = 8 << 20) {
  EngineOptions options;
  options.max_batch_tokens = 48;
  options.max_concurrent_requests = 11;  // not a captured size itself
  options.kv_cache_bytes = static_cast<std::size_t>(blocks_bytes);
  options.max_adapters = 1;
  return options;
}

struct Run {
  Run(Backend& backend, const std::string& name, const EngineOptions& options) {
    core = std::make_unique<EngineCore>(load_decoder(name, backend, options), backend, options, clock);
  }
  std::vector<Answer> answers(int count, std::uint64_t adapter = 0, int longest = 50) {
    std::vector<Request> requests;
    for (int i = 0; i < count; ++i) {
      Request request;
      for (int t = 0; t < (i == 5 ? longest : 3 + (i * 37) % 90); ++t) {
        request.prompt.push_back(static_cast<TokenId>((i * 17 + t * 29 + 5) % core->info().vocab_size));
      }
      request.max_output_tokens = 6 + 3 * i;
      request.top_logprobs = 3;
      request.sampling.temperature = i % 2 == 0 ? 0.0f : 1.0f;
      request.sampling.seed = i;
      request.adapter = i % 3 == 1 ? adapter : 0;
      requests.push_back(std::move(request));
    }
    return inferd::answers(*core, requests);
  }
  SystemClock clock;
  std::unique_ptr<EngineCore> core;
};

void check_equal(const std::vector<Answer>& got, const std::vector<Answer>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("request " << i);
    CHECK(equal_events(got[i].events, expected[i].events));
  }
}

TEST_CASE("replayed steps give the bits of steps made anew") {
  for (const char* name : {"models/qwen2", "models/llama3", "models/qwen1", "models/glm4", "models/bloom",
                           "models/chatglm1", "gguf/qwen2w.Q4_K_M.gguf"}) {
    INFO(name);
    const auto plain = make_cpu_backend({.threads = 2});
    RecordingBackend recording;
    Run expected(*plain, name, options_with()), captured(recording, name, options_with());
    check_equal(captured.answers(14), expected.answers(14));
    // Rows of 1, 2, 4, 8 and 11, tables of 16 blocks.
    CHECK(recording.keys() <= 5);
    CHECK(recording.replays > 20);
  }
}

TEST_CASE("preemption, prefix hits and longer tables meet captured steps") {
  const auto plain = make_cpu_backend({.threads = 2});
  RecordingBackend recording;
  Run expected(*plain, "models/qwen2", options_with()), captured(recording, "models/qwen2", options_with());
  check_equal(captured.answers(6), expected.answers(6));
  const std::size_t short_keys = recording.keys();
  check_equal(captured.answers(6, 0, 300), expected.answers(6, 0, 300));
  CHECK(recording.keys() > short_keys);  // tables of 16, then of 32 blocks
  check_equal(captured.answers(6, 0, 300), expected.answers(6, 0, 300));
  CHECK(captured.core->stats().cached_prompt_tokens > 0);

  const auto bytes = static_cast<std::int64_t>(expected.core->kv_plan().block_bytes) * 10;
  Run tight(*plain, "models/qwen2", options_with(bytes)),
      captured_tight(recording, "models/qwen2", options_with(bytes));
  check_equal(captured_tight.answers(14), tight.answers(14));
  CHECK(captured_tight.core->stats().preemptions > 0);
  CHECK(captured_tight.core->stats().kv_blocks_total == 10);
}

TEST_CASE("steps with adapters are made anew, and mixtures always") {
  const LoraAdapter adapter = read_lora_adapter(open_adapter(kGolden + "lora/lora_qwen2_all"));
  const auto plain = make_cpu_backend({.threads = 2});
  RecordingBackend recording;
  Run expected(*plain, "models/qwen2", options_with()), captured(recording, "models/qwen2", options_with());
  const std::uint64_t of_expected = expected.core->load_adapter(adapter),
                      of_captured = captured.core->load_adapter(adapter);
  check_equal(captured.answers(6, of_captured), expected.answers(6, of_expected));
  check_equal(captured.answers(6), expected.answers(6));
  CHECK(recording.replays > 0);

  RecordingBackend other;
  Run mixture(other, "models/qwen2_moe", options_with()), plain_mixture(*plain, "models/qwen2_moe", options_with());
  check_equal(mixture.answers(5), plain_mixture.answers(5));
  CHECK(other.keys() == 0);
}

}  // namespace
}  // namespace inferd
