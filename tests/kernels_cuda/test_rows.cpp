// gather_rows on the PTX interpreter.
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

TEST_CASE("gather_rows copies rows between strides") {
  for (const int arch : built_archs()) {
    for (const int columns : {1, 31, 32, 255, 256, 257, 600, 1300}) {
      CAPTURE(arch, columns);
      SimLauncher sim(arch);
      const int stride = columns + 3;
      std::vector<float> x(static_cast<std::size_t>(5 * stride));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
      GatherRowsArgs args;
      args.x = sim.put(x, DType::f32, {5, columns}, "x");
      args.x.row_stride = stride;
      args.rows = sim.put(std::vector<std::int32_t>{4, 0, 4}, DType::i32, {3}, "rows");
      args.out = sim.output(DType::f32, {3, columns}, "out");
      cuda::gather_rows(sim, args);
      const auto out = sim.get<float>(args.out.data, static_cast<std::size_t>(3 * columns));
      for (int i = 0; i < 3 * columns; ++i) {
        REQUIRE(out[static_cast<std::size_t>(i)] ==
                static_cast<float>((i / columns == 1 ? 0 : 4) * stride + i % columns));
      }
    }
  }
}

TEST_CASE("gather_rows was run whole") { CHECK(uncovered(cuda::Kernel::gather_rows) == ""); }
