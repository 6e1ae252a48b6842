// Faults put into the attention kernels, one at a time, against small steps that reach all of their code.
#include <array>

#include "tests/catch.h"
#include "tests/kernels_cuda/attention_case.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::cuda::Kernel;

namespace {

/// Queries [begin, end) of a sequence.
struct Span {
  int sequence, begin, end;
};

struct StepOptions {
  bool partials = true;  // whether the workspace has room for them
  bool both = false;     // without such room too, to the same bits
  int bucket = 0;        // that the step's maxima are of
  int schedules = 1;     // 2: what a block writes where another one's results belong is seen in one of two orders
};

/// A step, and what it must give in fp64.
class Step {
 public:
  Step(const AttentionShape& shape, const std::vector<Span>& spans, const StepOptions& options)
      : shape_(shape), options_(options) {
    int lengths[2] = {0, 0};
    for (const Span& s : spans) lengths[s.sequence] = std::max(lengths[s.sequence], s.end);
    for (int i = 0; i < 2; ++i) sequences_.push_back(std::make_shared<AttentionSequence>(shape, lengths[i], 1u + i));
    for (std::size_t at = 5; at < sequences_[1]->v.size(); at += static_cast<std::size_t>(shape.dim)) {
      sequences_[1]->v[at] = -0.0f;  // comes out as +0
    }
    round_as_stored(sequences_[1]->v, shape.type, shape.dim);
    for (const Span& s : spans) {
      const AttentionSequence* sequence = sequences_[static_cast<std::size_t>(s.sequence)].get();
      chunks_.push_back({sequence, s.begin, s.end});
      for (int token = s.begin; token < s.end; ++token) {
        const std::vector<double> row = attention_reference(shape, *sequence, token, s.end);
        expected_.insert(expected_.end(), row.begin(), row.end());
      }
    }
  }

  bool is_right(double tolerance) const {
    const std::vector<float> out = run(options_.partials);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (!(std::fabs(out[i] - expected_[i]) <= tolerance)) return false;
      if (out[i] == 0.0f && std::signbit(out[i])) return false;
    }
    return !options_.both || run(false) == out;
  }

 private:
  std::vector<float> run(bool partials) const {
    SimLauncher sim(mutant_arch(), partials ? std::size_t{1} << 19 : 0, options_.schedules);
    AttentionStep step(sim, shape_, chunks_, 7);
    step.batch.max_query_len = std::max(step.batch.max_query_len, options_.bucket);
    step.batch.max_context_len = std::max(step.batch.max_context_len, options_.bucket);
    cuda::attention(sim, step.args);
    return step.output();
  }

  AttentionShape shape_;
  StepOptions options_;
  std::vector<std::shared_ptr<AttentionSequence>> sequences_;
  std::vector<AttentionChunk> chunks_;
  std::vector<double> expected_;
};

using Steps = std::vector<Step>;

/// Makes steps that bring the kernels of the paged cache to every border, the cheapest first.
class StepList {
 public:
  /// `shape`: head size and type; `sizes`: other head sizes for the same kernel.
  static Steps all(const AttentionShape& shape, const std::vector<int>& sizes) {
    StepList list(shape);
    list.add_small();
    for (const int dim : sizes) list.add_size(dim);
    list.add_companies();
    list.add_contexts();
    list.add_visible_keys();
    list.add_shaped_scores();
    return std::move(list.steps_);
  }

 private:
  explicit StepList(const AttentionShape& shape) : shape_(shape) {}

  AttentionShape with(int heads, int kv_heads = 1) const {
    AttentionShape s = shape_;
    s.heads = heads;
    s.kv_heads = kv_heads;
    return s;
  }
  void add(const AttentionShape& shape, const std::vector<Span>& spans, const StepOptions& options = {}) {
    steps_.emplace_back(shape, spans, options);
  }

  void add_small() {
    add(with(3), {{0, 0, 9}});
    add(with(3), {{0, 9, 10}});
    for (const int heads : {1, 2, 5}) {
      add(with(heads), {{1, 9, 10}});
      add(with(heads), {{1, 15, 16}}, {.partials = false});
    }
  }

  void add_size(int dim) {
    AttentionShape s = with(4);
    s.dim = dim;
    add(s, {{0, 29, 30}, {1, 1, 16}});
    add(s, {{0, 29, 30}, {1, 15, 16}}, {.schedules = 2});
    s = with(5);
    s.dim = dim;
    add(s, {{1, 1, 16}, {0, 29, 30}});
  }

  /// Rows behind a sequence's last would be the next one's.
  void add_companies() {
    for (const int heads : {2, 5}) add(with(heads), {{0, 19, 20}, {1, 9, 10}}, {.schedules = 2});
    add(with(5), {{0, 17, 20}, {1, 9, 10}}, {.schedules = 2});
    add(with(1), {{0, 0, 9}, {1, 0, 21}}, {.partials = false, .schedules = 2});
    add(with(4, 2), {{0, 69, 70}, {1, 5, 40}, {0, 60, 63}}, {.schedules = 2});
    add(with(40, 2), {{0, 39, 40}, {1, 0, 5}});
    add(with(3), {{0, 279, 280}, {1, 3, 4}, {1, 0, 9}}, {.bucket = 600});
  }

  void add_contexts() {
    // The last key lies in every page and eighth of a tile that is the first, or a later one; the twelfth row of a page
    // is copied by two turns where heads are 80 wide.
    for (const int context : {12, 16, 17, 28, 44, 60, 64, 65, 76, 82, 92, 108, 124, 256, 257}) {
      add(with(3), {{0, context - 1, context}}, {.both = true});
    }
  }

  void add_visible_keys() {
    // Every place of a tile is a row's first key and its last, in both halves of 16 rows.
    for (const int window : {0, 50}) {
      for (const int begin : {60, 68}) {
        AttentionShape s = with(1);
        s.window = window;
        add(s, {{0, begin, begin + 16}});
        add(s, {{1, begin, begin + 70}});
      }
    }
    for (const int window : {1, 16, 63, 64, 65}) {
      AttentionShape s = with(5);
      s.window = window;
      add(s, {{0, 97, 100}});
      add(s, {{1, 60, 80}});
    }
    for (const int prefix : {1, 33, 64, 65}) {
      AttentionShape s = with(2);
      s.prefix = prefix;
      add(s, {{0, 0, 70}});
      add(s, {{1, 40, 43}});
    }
  }

  void add_shaped_scores() {
    for (const int heads : {5, 12}) {
      AttentionShape s = with(heads);
      s.window = 200;
      s.softcap = 5.0f;
      s.alibi = true;
      s.prefix = 20;
      add(s, {{0, 299, 300}}, {.both = true});
      add(s, {{1, 12, 30}, {0, 253, 258}});
    }
  }

  AttentionShape shape_;
  Steps steps_;
};

/// Those steps that run a kernel, against its faults.
class Trial {
 public:
  Trial(Kernel kernel, const AttentionShape& shape, std::vector<int> sizes, double tolerance)
      : kernel_(kernel), shape_(shape), sizes_(std::move(sizes)), tolerance_(tolerance) {}

  bool is_right() {
    if (!fault_in_place()) return choose_steps();
    const auto found = std::find_if(steps_.begin(), steps_.end(), [&](const Step& step) { return !is_right(step); });
    if (found == steps_.end()) return true;
    // It may well notice the next fault too. The first one is cheaper.
    if (found != steps_.begin()) std::rotate(steps_.begin() + 1, found, found + 1);
    return false;
  }

 private:
  bool is_right(const Step& step) const {
    try {
      return step.is_right(tolerance_);
    } catch (const std::exception&) {
      return false;
    }
  }

  std::uint64_t runs() const {
    const int arch = mutant_arch();
    return profile_of(arch).of(module_of(kernel_, arch).kernel(kernel_info(kernel_).entry))[0].executions;
  }

  /// Those that run the kernel, if all are right.
  bool choose_steps() {
    for (Step& step : StepList::all(shape_, sizes_)) {
      const std::uint64_t before = runs();
      if (!step.is_right(tolerance_)) return false;
      if (runs() > before) steps_.push_back(std::move(step));
    }
    return true;
  }

  Kernel kernel_;
  AttentionShape shape_;
  std::vector<int> sizes_;
  double tolerance_;
  Steps steps_;
};

// Tolerances: test_attention.cpp, test_attention_mma.cpp, attention_codes.h.
double on_tensor_cores(DType type) { return type == DType::f16 ? 2e-3 : type == DType::bf16 ? 1.6e-2 : 4e-3; }
constexpr double kPlain = 3e-5;

Suspect cached(Kernel kernel, DType type, int dim, double tolerance, const std::vector<int>& sizes = {}) {
  const auto trial = std::make_shared<Trial>(kernel, AttentionShape{.dim = dim, .type = type}, sizes, tolerance);
  return {kernel, [=] { return trial->is_right(); }};
}

/// Loops over columns take one to four turns and more.
Suspect plain(Kernel kernel, DType type) {
  if (type == DType::q8_0) return cached(kernel, type, 160, kPlain, {96, 192});
  return cached(kernel, type, 136, kPlain, {24, 72});
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
  std::vector<Suspect> suspects = {plain(Kernel::attention_fma_f32, DType::f32),
                                   plain(Kernel::attention_fma_q8_0, DType::q8_0),
                                   plain(Kernel::attention_combine, DType::f32)};
  if (all_mutants()) {
    suspects.push_back(plain(Kernel::attention_fma_fp8, DType::fp8));
    suspects.push_back(plain(Kernel::attention_fma_f16, DType::f16));
    suspects.push_back(plain(Kernel::attention_fma_bf16, DType::bf16));
  }
  CHECK(unlisted_mutants("attention", suspects) == "");
}
