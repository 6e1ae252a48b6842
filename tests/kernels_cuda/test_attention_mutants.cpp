// Faults put into the attention kernels, one at a time, against small steps that reach all of their code.
#include <array>

#include "tests/catch.h"
#include "tests/kernels_cuda/attention_case.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::cuda::Kernel;

namespace {

constexpr std::size_t kWorkspace = std::size_t{1} << 19;

/// Queries [begin, end) of a sequence.
struct Span {
  int sequence, begin, end;
};

/// A step, and what it must give in fp64.
class Step {
 public:
  Step(const AttentionShape& shape, const std::vector<Span>& spans, std::size_t workspace = kWorkspace, int bucket = 0)
      : shape_(shape), workspace_(workspace), bucket_(bucket) {
    int lengths[2] = {0, 0};
    for (const Span& s : spans) lengths[s.sequence] = std::max(lengths[s.sequence], s.end);
    for (int i = 0; i < 2; ++i) sequences_.push_back(std::make_shared<AttentionSequence>(shape, lengths[i], 1u + i));
    for (std::size_t at = 5; at < sequences_[1]->v.size(); at += static_cast<std::size_t>(shape.dim)) {
      sequences_[1]->v[at] = -0.0f;  // comes out as +0
    }
    for (const Span& s : spans) {
      const AttentionSequence* sequence = sequences_[static_cast<std::size_t>(s.sequence)].get();
      chunks_.push_back({sequence, s.begin, s.end});
      for (int token = s.begin; token < s.end; ++token) {
        const std::vector<double> row = attention_reference(shape, *sequence, token, s.end);
        expected_.insert(expected_.end(), row.begin(), row.end());
      }
    }
  }

  bool is_right(int arch, double tolerance) const {
    // What a block writes where another one's results belong is seen in one of two orders.
    SimLauncher sim(arch, workspace_, 2);
    AttentionStep step(sim, shape_, chunks_, 7);
    step.batch.max_query_len = std::max(step.batch.max_query_len, bucket_);
    step.batch.max_context_len = std::max(step.batch.max_context_len, bucket_);
    cuda::attention(sim, step.args);
    const std::vector<float> out = step.output();
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!(std::fabs(out[i] - expected_[i]) <= tolerance)) return false;
      if (out[i] == 0.0f && std::signbit(out[i])) return false;
    }
    return true;
  }

 private:
  AttentionShape shape_;
  std::size_t workspace_;
  int bucket_;
  std::vector<std::shared_ptr<AttentionSequence>> sequences_;
  std::vector<AttentionChunk> chunks_;
  std::vector<double> expected_;
};

using Steps = std::vector<Step>;

bool all_right(const Steps& steps, double tolerance) {
  return std::all_of(steps.begin(), steps.end(), [&](const Step& s) { return s.is_right(mutant_arch(), tolerance); });
}

/// Steps that bring a kernel of the paged cache to every border, the cheapest first. `shape`: head size and type;
/// `narrow`: another head size for the same kernel, or 0.
Steps cached_steps(AttentionShape shape, int narrow) {
  Steps steps;
  const auto with = [&](int heads, int kv_heads, auto&& change) {
    AttentionShape s = shape;
    s.heads = heads;
    s.kv_heads = kv_heads;
    change(s);
    return s;
  };
  const AttentionShape plain = with(3, 1, [](AttentionShape&) {});
  steps.emplace_back(plain, std::vector<Span>{{0, 0, 9}});
  steps.emplace_back(plain, std::vector<Span>{{0, 9, 10}});
  for (const int heads : {1, 2, 5}) {
    const AttentionShape s = with(heads, 1, [](AttentionShape&) {});
    steps.emplace_back(s, std::vector<Span>{{1, 9, 10}});
    steps.emplace_back(s, std::vector<Span>{{1, 15, 16}}, 0);
  }
  if (narrow > 0) {
    const AttentionShape s = with(4, 2, [&](AttentionShape& to) { to.dim = narrow; });
    steps.emplace_back(s, std::vector<Span>{{0, 29, 30}, {1, 1, 16}});
  }
  steps.emplace_back(with(4, 2, [](AttentionShape&) {}), std::vector<Span>{{0, 69, 70}, {1, 5, 40}, {0, 60, 63}});
  steps.emplace_back(with(40, 2, [](AttentionShape&) {}), std::vector<Span>{{0, 39, 40}, {1, 0, 5}});
  for (const int context : {16, 17, 64, 65, 90, 120, 256, 257}) {
    steps.emplace_back(plain, std::vector<Span>{{0, context - 1, context}});
    steps.emplace_back(plain, std::vector<Span>{{0, context - 1, context}}, 0);  // no room for partials
  }
  for (const int window : {1, 16, 63, 64, 65}) {
    const AttentionShape s = with(5, 1, [&](AttentionShape& to) { to.window = window; });
    steps.emplace_back(s, std::vector<Span>{{0, 97, 100}, {1, 60, 100}});
  }
  for (const int prefix : {1, 33, 64, 65}) {
    const AttentionShape s = with(5, 1, [&](AttentionShape& to) { to.prefix = prefix; });
    steps.emplace_back(s, std::vector<Span>{{0, 0, 70}, {1, 40, 43}});
  }
  for (const int heads : {5, 12}) {
    const AttentionShape s = with(heads, 1, [](AttentionShape& to) {
      to.window = 200;
      to.softcap = 5.0f;
      to.alibi = true;
      to.prefix = 20;
    });
    steps.emplace_back(s, std::vector<Span>{{0, 299, 300}, {1, 3, 30}, {0, 250, 258}});
  }
  steps.emplace_back(plain, std::vector<Span>{{0, 279, 280}, {1, 3, 4}, {1, 0, 9}}, kWorkspace, 600);
  return steps;
}

// Tolerances: test_attention.cpp, test_attention_mma.cpp, attention_codes.h.
double on_tensor_cores(DType type) { return type == DType::f16 ? 2e-3 : type == DType::bf16 ? 1.6e-2 : 4e-3; }
constexpr double kPlain = 3e-5;

Suspect cached(Kernel kernel, DType type, int dim, double tolerance, int narrow = 0) {
  const auto steps = std::make_shared<Steps>(cached_steps({.dim = dim, .type = type}, narrow));
  return {kernel, [=] { return all_right(*steps, tolerance); }};
}

}  // namespace

#define PAIR(type, dim)                                                                           \
  cached(Kernel::attention_tiles_##type##_##dim, DType::type, dim, on_tensor_cores(DType::type)), \
      cached(Kernel::attention_spans_##type##_##dim, DType::type, dim, on_tensor_cores(DType::type))

TEST_CASE("faults in attention on tensor cores are noticed") {
  std::vector<Suspect> suspects = {PAIR(f16, 64), PAIR(f16, 80), PAIR(bf16, 256), PAIR(q8_0, 64)};
  if (all_mutants()) {
    const Suspect more[] = {PAIR(f16, 96),   PAIR(f16, 128), PAIR(f16, 256),  PAIR(bf16, 64),
                            PAIR(bf16, 80),  PAIR(bf16, 96), PAIR(bf16, 128), PAIR(q8_0, 128),
                            PAIR(q8_0, 256), PAIR(fp8, 64),  PAIR(fp8, 128),  PAIR(fp8, 256)};
    suspects.insert(suspects.end(), std::begin(more), std::end(more));
  }
  CHECK(unlisted_mutants("attention", suspects) == "");
}

TEST_CASE("faults in attention by plain arithmetic are noticed") {
  std::vector<Suspect> suspects = {cached(Kernel::attention_fma_f32, DType::f32, 136, kPlain, 24),
                                   cached(Kernel::attention_fma_q8_0, DType::q8_0, 160, kPlain, 96),
                                   cached(Kernel::attention_combine, DType::f32, 136, kPlain, 24)};
  if (all_mutants()) {
    suspects.push_back(cached(Kernel::attention_fma_fp8, DType::fp8, 136, kPlain, 24));
    suspects.push_back(cached(Kernel::attention_fma_f16, DType::f16, 136, kPlain, 24));
    suspects.push_back(cached(Kernel::attention_fma_bf16, DType::bf16, 136, kPlain, 24));
  }
  CHECK(unlisted_mutants("attention", suspects) == "");
}
