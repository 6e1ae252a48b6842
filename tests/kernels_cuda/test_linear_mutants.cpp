// Faults put into the tensor-core linear kernels, one at a time, against small products that reach all of their code.
#include <algorithm>
#include <string>

#include "kernels/cuda/pack.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mixture.h"
#include "tests/kernels_cuda/mma_layer.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;

namespace {

/// A product, what it must be, and the memory for both.
class Trial {
 public:
  Trial(DType dtype, int tile, std::int64_t rows, std::int64_t columns, std::int64_t tokens,
        EpilogueReference reference = {})
      : tile_(tile),
        tokens_(tokens),
        layer_(std::make_unique<MmaLayer>(mutant_arch(), dtype, rows, columns, tokens, 1, reference.gated)) {
    params_ = layer_->epilogue(reference, tokens);
    expected_ = reference(layer_->expected(), static_cast<std::size_t>(rows));
    before_ = reference.residual;
    before_.resize(expected_.sums.size(), std::nanf(""));
  }

  bool is_right() const {
    layer_->sim.write(params_.out, before_.data(), before_.size() * sizeof(float));
    linear_mma(layer_->sim, layer_->part(), layer_->x->planes, tokens_, params_, tile_);
    const std::vector<float> found = layer_->sim.get<float>(params_.out, before_.size());
    return first_difference(found, expected_.sums, expected_.error, 1) == "";
  }

 private:
  int tile_;
  std::int64_t tokens_;
  std::unique_ptr<MmaLayer> layer_;
  EpilogueParams params_;
  Product expected_;
  std::vector<float> before_;  // in the output
};

/// A mixture of experts, and what it must give.
class ExpertTrial {
 public:
  ExpertTrial(DType dtype, int tile, std::int64_t rows, std::int64_t columns, std::int64_t tokens, bool gated)
      // What a block writes where another one's results belong is seen in one of two orders.
      : mixture_(std::make_unique<Mixture>(mutant_arch(), dtype, rows, columns, tokens, gated, 2)),
        expected_(mixture_->expected()) {
    REQUIRE(expert_tile(mixture_->plan.view) == tile);
  }

  bool is_right() const { return first_difference(mixture_->run(), expected_.sums, expected_.error, 1) == ""; }

 private:
  std::unique_ptr<Mixture> mixture_;
  Product expected_;
};

/// linear_q4_0_8 and the like.
Kernel kernel_of(const std::string& family, DType dtype, int tile) {
  // The formats' names are those of the kernels beside these.
  constexpr Kernel kNamed[] = {INFERD_KERNEL_OF_EACH_FORMAT(linear_exact)};
  const char* tiles[] = {"8", "16", "32", "64", "prefill"};
  const std::string format = kernel_info(kNamed[static_cast<int>(weight_format_of(dtype))]).entry;
  const std::string entry = family + format.substr(std::string("linear_exact").size()) + "_" + tiles[tile];
  const auto* found = std::find_if(std::begin(kKernels), std::end(kKernels),
                                   [&](const KernelInfo& info) { return entry == info.entry; });
  REQUIRE(found != std::end(kKernels));
  return static_cast<Kernel>(found - kKernels);
}

/// `make` gives the trials when they are first asked for: a run by hand is of few of all kernels.
template <typename Make>
Suspect suspect(Kernel kernel, const Make& make) {
  auto trials = std::make_shared<decltype(make())>();
  return {kernel, [=] {
            if (trials->empty()) *trials = make();
            return std::all_of(trials->begin(), trials->end(), [](const auto& trial) { return trial.is_right(); });
          }};
}

std::int64_t least_columns(DType dtype) { return std::max(64, dtype_info(dtype).block_elements); }

/// Of all sizes of rows, columns and tokens, the cheapest first.
Suspect sizes(DType dtype, int tile) {
  return suspect(kernel_of("linear", dtype, tile), [=] {
    const LinearTile shape = linear_tile(tile, weight_layout(weight_format_of(dtype)));
    const std::int64_t least = least_columns(dtype);
    std::vector<Trial> trials;
    trials.emplace_back(dtype, tile, 19, least, 3);
    trials.emplace_back(dtype, tile, 8, least, 1);
    EpilogueReference gated;
    gated.gated = true;
    gated.function = ActivationFunction::silu;
    trials.emplace_back(dtype, tile, 34, least, 4, gated);  // tokens are stored in pairs: each of one is the last
    trials.emplace_back(dtype, tile, 19, 1280, 2);
    if (shape.depth == 1) trials.emplace_back(dtype, tile, 8, 512, 1);  // the most of one tile a slice
    trials.emplace_back(dtype, tile, shape.block_rows() + 1, least, shape.tokens);
    trials.emplace_back(dtype, tile, 2 * shape.block_rows() + 18, least, 1, gated);
    trials.emplace_back(dtype, tile, shape.block_rows() - 7, 3840, shape.tokens + 1);
    return trials;
  });
}

/// Of all epilogues.
Suspect epilogues(DType dtype, int tile) {
  Suspect all = sizes(dtype, tile);
  const Suspect more = suspect(all.kernel, [=] {
    std::vector<Trial> trials;
    const std::int64_t tokens = 5;
    using F = ActivationFunction;
    for (const bool gated : {false, true}) {
      for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
        const std::int64_t rows = gated ? 34 : 19;
        EpilogueReference reference;
        reference.gated = gated;
        reference.function = function;
        if (function != F::silu) {
          reference.addend = random_rows(tokens, rows, 1);
          reference.bias = random_rows(1, rows, 2);
          reference.residual = random_rows(tokens, gated ? rows / 2 : rows, 3);
        }
        trials.emplace_back(dtype, tile, rows, least_columns(dtype), tokens, reference);
      }
    }
    return trials;
  });
  all.checks.insert(all.checks.end(), more.checks.begin(), more.checks.end());
  return all;
}

/// Products of experts, whose rows make tiles like linear_tile()'s.
Suspect experts(DType dtype, int tile) {
  return suspect(kernel_of("experts", dtype, tile), [=] {
    const LinearTile shape = linear_tile(tile, weight_layout(weight_format_of(dtype)));
    const std::int64_t least = least_columns(dtype), few = shape.tokens / 2 + 1, many = 2 * shape.tokens;
    std::vector<ExpertTrial> trials;
    trials.emplace_back(dtype, tile, 18, least, few, false);
    trials.emplace_back(dtype, tile, 34, least, few, true);
    trials.emplace_back(dtype, tile, 18, 1280, few, false);
    trials.emplace_back(dtype, tile, shape.block_rows() + 2, least, many, false);
    trials.emplace_back(dtype, tile, 2 * shape.block_rows() + 18, least, few, true);
    trials.emplace_back(dtype, tile, shape.block_rows() - 6, 3840, many, false);
    return trials;
  });
}

/// Of `some` formats, with all_mutants() of every one.
std::vector<Suspect> formats(Suspect (*make)(DType, int), int tile, std::initializer_list<DType> some) {
  std::vector<DType> dtypes(some);
  if (all_mutants()) dtypes.assign(std::begin(kMmaTypes), std::end(kMmaTypes));
  std::vector<Suspect> suspects;
  for (const DType dtype : dtypes) {
    if (make == experts && dtype == DType::g3_32) continue;  // has none
    suspects.push_back(make(dtype, tile));
  }
  return suspects;
}

}  // namespace

TEST_CASE("faults in the epilogues of linear layers are noticed") {
  CHECK(unlisted_mutants("linear_mma", {epilogues(DType::f16, 0), epilogues(DType::q4_0, 3)}) == "");
}

TEST_CASE("faults in the kernels for 8 tokens are noticed") {
  CHECK(unlisted_mutants("linear_mma", formats(sizes, 0, {DType::q4_k}), "epilogue.cuh") == "");
}
TEST_CASE("faults in the kernels for 16 tokens are noticed") {
  CHECK(unlisted_mutants("linear_mma", formats(sizes, 1, {DType::bf16}), "epilogue.cuh") == "");
}
TEST_CASE("faults in the kernels for 32 tokens are noticed") {
  CHECK(unlisted_mutants("linear_mma", formats(sizes, 2, {DType::q6_k}), "epilogue.cuh") == "");
}
TEST_CASE("faults in the kernels for 64 tokens are noticed") {
  CHECK(unlisted_mutants("linear_mma", formats(sizes, 3, {DType::g3_128}), "epilogue.cuh") == "");
}
TEST_CASE("faults in the prefill kernels are noticed") {
  CHECK(unlisted_mutants("linear_mma", formats(sizes, 4, {DType::f16, DType::nf4}), "epilogue.cuh") == "");
}
TEST_CASE("faults in the products of experts are noticed") {
  for (const int tile : {0, 2}) {
    CHECK(unlisted_mutants("linear_mma", formats(experts, tile, {tile == 0 ? DType::q4_k : DType::f16})) == "");
  }
}
