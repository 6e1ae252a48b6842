// gather_rows and take_tokens on the PTX interpreter.
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

TEST_CASE("take_tokens replaces the tokens that have a source") {
  for (const int arch : built_archs()) {
    for (const int count : {1, 255, 256, 257, 513}) {
      CAPTURE(arch, count);
      SimLauncher sim(arch);
      std::vector<std::int32_t> tokens, sources;
      for (int i = 0; i < count; ++i) {
        tokens.push_back(1000 + i);
        sources.push_back(i % 3 == 1 ? -1 : i * 7 % 5);
      }
      TakeTokensArgs args;
      args.tokens = sim.put(tokens, DType::i32, {count}, "tokens");
      args.sources = sim.put(sources, DType::i32, {count}, "sources");
      args.drawn = sim.put(std::vector<std::int32_t>{90, 91, 92, 93, 94}, DType::i32, {5}, "drawn");
      cuda::take_tokens(sim, args);
      const auto got = sim.get<std::int32_t>(args.tokens.data, static_cast<std::size_t>(count));
      for (int i = 0; i < count; ++i) {
        REQUIRE(got[static_cast<std::size_t>(i)] == (i % 3 == 1 ? 1000 + i : 90 + i * 7 % 5));
      }
      args.tokens.shape[0] = args.sources.shape[0] = 0;
      cuda::take_tokens(sim, args);  // launches nothing
    }
  }
}

TEST_CASE("gather_rows was run whole") {
  CHECK(uncovered(cuda::Kernel::gather_rows) == "");
  CHECK(uncovered(cuda::Kernel::take_tokens) == "");
}
