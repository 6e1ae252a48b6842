// Products of mixtures of experts on the PTX interpreter, of every format.
#include "kernels/cuda/experts.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mixture.h"
#include "tests/kernels_cuda/mma_layer.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;

namespace {

std::string wrong_product(Mixture& mixture) {
  const Product expected = mixture.expected();
  return first_difference(mixture.run(), expected.sums, expected.error, 1);
}

}  // namespace

TEST_CASE("every format's experts are multiplied as their widened weights are") {
  for (const DType dtype : kMmaTypes) {
    for (const int arch : built_archs()) {
      if ((dtype == DType::bf16 && arch < 80) || dtype == DType::g3_32) continue;  // the latter has no kernel
      // 5 and 20 tokens, two experts each: tiles of 8 rows, then of 32.
      for (const std::int64_t tokens : {5, 20}) {
        CAPTURE(arch, dtype_info(dtype).name, tokens);
        const bool narrow = tokens == 5;
        Mixture mixture(arch, dtype, 38, 1280, tokens, false, 1);
        REQUIRE(expert_tile(mixture.plan.view) == (narrow ? 0 : 2));
        REQUIRE(wrong_product(mixture) == "");
      }
    }
  }
}

TEST_CASE("gated experts, under every schedule, and the same bits as one expert alone") {
  for (const DType dtype : {DType::f16, DType::q4_k}) {
    for (const int arch : built_archs()) {
      for (const std::int64_t tokens : {9, 40}) {
        CAPTURE(arch, dtype_info(dtype).name, tokens);
        Mixture mixture(arch, dtype, 40, 3840, tokens, true, 2);
        REQUIRE(wrong_product(mixture) == "");
        const std::vector<float> out = mixture.run();
        for (std::size_t e = 0; e < Mixture::kExperts; ++e) {
          LinearArgs args;
          args.x = mixture.normed->view;
          args.num_tokens = tokens;
          args.weight = mixture.views[e];
          args.epilogue = Epilogue::silu_gated;
          args.out = mixture.sim.output(DType::f32, {tokens, 20}, "alone");
          linear(mixture.sim, args);
          const auto alone = mixture.sim.get<float>(args.out.data, static_cast<std::size_t>(tokens) * 20);
          for (std::int32_t i = 0; i < mixture.chosen.counts[e]; ++i) {
            const auto row = static_cast<std::size_t>(mixture.chosen.starts[e] + i);
            const auto token = static_cast<std::size_t>(mixture.chosen.tokens[row]);
            REQUIRE(std::memcmp(&out[row * 20], &alone[token * 20], 20 * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("experts that differ, or that tensor cores do not read, make no group") {
  SimLauncher sim(built_archs().back());
  SimWeightMemory memory(sim);
  const inferd::testing::StoredMatrix small(DType::q4_0, 32, 256, 1), large(DType::q4_0, 48, 256, 2),
      wide(DType::f32, 32, 256, 3), rare(DType::g3_32, 32, 256, 4);
  const CudaWeight a = sim_weight(sim, {small.source()}), b = sim_weight(sim, {large.source()}),
                   c = sim_weight(sim, {wide.source()}), d = sim_weight(sim, {rare.source()});
  CHECK(group_experts(std::vector<const Weight*>{&a, &b}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&c, &c}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&d, &d}, memory) == nullptr);
  CHECK(group_experts(std::vector<const Weight*>{&a, &a}, memory) != nullptr);
}

TEST_CASE("the kernels of mixtures were run whole") {
  for (const Kernel kernel :
       {Kernel::experts_f16_8, Kernel::experts_f16_32, Kernel::experts_q4_k_8, Kernel::experts_q4_k_32}) {
    CHECK(uncovered(kernel) == "");
  }
}
