// sum_ranks on the PTX interpreter, against f32 sums written out.
#include <random>

#include "kernels/cuda/rank_sum.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

TEST_CASE("sum_ranks adds the parts of every rank in their order") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (const int arch : built_archs()) {
    for (const int ranks : {1, 2, 3, 8}) {
      for (const int count : {1, 3, 4, 5, 1020, 1023, 1024, 1025, 1028, 2100}) {
        CAPTURE(arch, ranks, count);
        SimLauncher sim(arch);
        std::vector<float> parts(static_cast<std::size_t>(ranks * count));
        for (float& part : parts) part = normal(random);
        const Tensor in = sim.put(parts, DType::f32, {ranks, count}, "parts");
        const Tensor out = sim.output(DType::f32, {count}, "out");
        cuda::sum_ranks(sim, in.as<float>(), ranks, count, out.as<float>());
        const auto found = sim.get<float>(out.data, static_cast<std::size_t>(count));
        for (std::size_t i = 0; i < found.size(); ++i) {
          float sum = parts[i];
          for (std::size_t rank = 1; rank < static_cast<std::size_t>(ranks); ++rank) {
            sum += parts[rank * found.size() + i];
          }
          REQUIRE(found[i] == sum);
        }
      }
    }
  }
}

TEST_CASE("sum_ranks was run whole") { CHECK(uncovered(cuda::Kernel::sum_ranks) == ""); }
