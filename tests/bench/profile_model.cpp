// Where a decoder's time goes: tokens per second of prefill and decode steps, and the share of every operation.
// Usage: profile_model MODEL [pp:TOKENS[@CONTEXT] | tg:SEQUENCES[@CONTEXT]]...; INFERD_ISA, KV=f16|f32|q8_0,
// THREADS and CASE_SECONDS in the environment. Built with -DINFERD_BENCH=ON.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/kv_cache/kv_cache.h"
#include "engine/models/model.h"
#include "engine/scheduler/batch.h"
#include "tests/bench/profiling_backend.h"

using namespace inferd;
using namespace inferd::bench;

namespace {

constexpr std::int64_t kMaxStep = 512;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string environment(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : fallback;
}

struct Case {
  bool prefill = true;
  std::int64_t count = 512;  // tokens of a step, or sequences of one token each
  std::int64_t context = 0;  // tokens before
};

Case parse_case(const std::string& text) {
  Case out;
  out.prefill = text.rfind("pp:", 0) == 0;
  char* end = nullptr;
  out.count = std::strtol(text.c_str() + 3, &end, 10);
  if (*end == '@') out.context = std::strtol(end + 1, &end, 10);
  if (*end != '\0' || out.count < 1 || out.count > kMaxStep || (!out.prefill && text.rfind("tg:", 0) != 0)) {
    std::fprintf(stderr, "not a case: %s\n", text.c_str());
    std::exit(64);
  }
  return out;
}

DType kv_type() {
  const std::string name = environment("KV", "f16");
  return name == "f32" ? DType::f32 : name == "q8_0" ? DType::q8_0 : DType::f16;
}

class Profile {
 public:
  Profile(const std::string& path, std::int64_t longest, std::int64_t most_tokens)
      : inner_(make_cpu_backend({.threads = std::atoi(environment("THREADS", "0").c_str())})),
        backend_(*inner_),
        checkpoint_(Checkpoint::open(path)) {
    ModelOptions options;
    options.max_batch_tokens = kMaxStep;
    model_ = std::move(load_model(*checkpoint_, read_model_config(*checkpoint_), backend_, options).decoder);
    const std::int64_t blocks = most_tokens / kKvBlockTokens + 2 * 64;
    EngineOptions engine;
    engine.kv_dtype = kv_type();
    engine.kv_cache_bytes = std::size_t{1} << 30;
    KvPlan plan = plan_kv_cache(model_->info(), model_->kv_spec(), engine, backend_.available_bytes());
    plan.num_blocks = blocks;
    cache_ = std::make_unique<KvCache>(backend_, model_->kv_spec(), engine.kv_dtype, plan);
    batch_ = std::make_unique<Batch>(backend_, BatchLimits{kMaxStep, 64, longest / kKvBlockTokens + 2, 64});
    std::printf("%s, %s\n", path.c_str(), backend_.name().c_str());
  }

  void run(const Case& which, double seconds) {
    step(which);
    backend_.clear();
    std::vector<double> times;
    const double until = now() + seconds;
    do {
      const double begin = now();
      step(which);
      times.push_back(now() - begin);
    } while (now() < until);
    report(which, times);
  }

 private:
  /// One forward of random tokens, which a mixture of experts spreads over them as text would be. Keys and values
  /// before `context` are whatever the cache holds: their cost does not depend on it.
  void step(const Case& which) {
    batch_->clear();
    const std::int64_t sequences = which.prefill ? 1 : which.count;
    const std::int64_t tokens = which.prefill ? which.count : 1;
    const std::int64_t blocks = (which.context + tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    tables_.assign(static_cast<std::size_t>(sequences), {});
    std::vector<TokenId> ids(static_cast<std::size_t>(tokens));
    std::uniform_int_distribution<TokenId> any(0, static_cast<TokenId>(model_->info().vocab_size - 1));
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (TokenId& id : ids) id = any(random_);
      auto& table = tables_[static_cast<std::size_t>(s)];
      for (std::int64_t i = 0; i < blocks; ++i) table.push_back(static_cast<std::int32_t>(s * blocks + i));
      batch_->append(ids, which.context, table);
      batch_->want_logits(1);
    }
    const BatchTensors tensors = batch_->upload();
    model_->forward(tensors, cache_->layers(), batch_->logit_rows(), [](int) {});
  }

  void report(const Case& which, std::vector<double> times) {
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    const double steps = static_cast<double>(times.size());
    std::printf("\n%s:%lld@%lld  median %.3f ms/step  %.1f tok/s  (least %.3f ms, %zu steps)\n",
                which.prefill ? "pp" : "tg", static_cast<long long>(which.count), static_cast<long long>(which.context),
                median * 1e3, static_cast<double>(which.count) / median, times[0] * 1e3, times.size());
    double total = 0, timed = 0;
    for (double time : times) total += time;
    std::vector<std::pair<std::string, OpCost>> costs(backend_.costs().begin(), backend_.costs().end());
    std::sort(costs.begin(), costs.end(), [](auto& a, auto& b) { return a.second.seconds > b.second.seconds; });
    for (const auto& [name, cost] : costs) {
      timed += cost.seconds;
      std::printf("  %-24s %8.3f ms %5.1f%% %5.0f calls, least %7.3f ms", name.c_str(), cost.seconds / steps * 1e3,
                  100 * cost.seconds / total, static_cast<double>(cost.calls) / steps, cost.least * 1e3);
      if (cost.operations > 0) {
        std::printf("  %6.1f GB/s %7.1f GFLOP/s, at most %7.1f", cost.weight_bytes / cost.seconds * 1e-9,
                    cost.operations / cost.seconds * 1e-9,
                    cost.operations / static_cast<double>(cost.calls) / cost.least * 1e-9);
      }
      if (cost.experts > 0) std::printf("  %.1f experts", cost.experts / static_cast<double>(cost.calls));
      std::printf("\n");
    }
    std::printf("  %-24s %8.3f ms %5.1f%%\n", "between operations", (total - timed) / steps * 1e3,
                100 * (total - timed) / total);
  }

  std::unique_ptr<Backend> inner_;
  ProfilingBackend backend_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Batch> batch_;
  std::vector<std::vector<std::int32_t>> tables_;
  std::mt19937 random_{1};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: profile_model MODEL [pp:TOKENS[@CONTEXT] | tg:SEQUENCES[@CONTEXT]]...\n");
    return 64;
  }
  std::vector<Case> cases;
  for (int i = 2; i < argc; ++i) cases.push_back(parse_case(argv[i]));
  if (cases.empty()) cases = {{true, 512, 0}, {false, 1, 128}, {false, 4, 128}, {false, 16, 128}};
  std::int64_t longest = 0, most = 0;
  for (const Case& one : cases) {
    const std::int64_t length = one.context + (one.prefill ? one.count : 1);
    longest = std::max(longest, length);
    most = std::max(most, (length + kKvBlockTokens) * (one.prefill ? 1 : one.count));
  }
  Profile profile(argv[1], longest, most);
  for (const Case& one : cases) profile.run(one, std::atof(environment("CASE_SECONDS", "2").c_str()));
  return 0;
}
