// gather_rows and take_tokens on the PTX interpreter.
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

void check_gather(int arch, int columns, int schedules = 6) {
  CAPTURE(arch, columns);
  SimLauncher sim(arch, 0, schedules);
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
    HOLDS(out[static_cast<std::size_t>(i)] == static_cast<float>((i / columns == 1 ? 0 : 4) * stride + i % columns));
  }
}

void check_take(int arch, int count, int schedules = 6) {
  CAPTURE(arch, count);
  SimLauncher sim(arch, 0, schedules);
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
    HOLDS(got[static_cast<std::size_t>(i)] == (i % 3 == 1 ? 1000 + i : 90 + i * 7 % 5));
  }
  args.tokens.shape[0] = args.sources.shape[0] = 0;
  cuda::take_tokens(sim, args);  // launches nothing
}

const std::initializer_list<int> kColumns = {1, 31, 32, 255, 256, 257, 600, 1000, 1300},
                                 kCounts = {1, 255, 256, 257, 513};

}  // namespace

TEST_CASE("gather_rows copies rows between strides") {
  for (const int arch : built_archs()) {
    for (const int columns : kColumns) check_gather(arch, columns);
  }
}

TEST_CASE("take_tokens replaces the tokens that have a source") {
  for (const int arch : built_archs()) {
    for (const int count : kCounts) check_take(arch, count);
  }
}

TEST_CASE("gather_rows was run whole") {
  CHECK(uncovered(cuda::Kernel::gather_rows) == "");
  CHECK(uncovered(cuda::Kernel::take_tokens) == "");
}

TEST_CASE("faults in gather_rows and take_tokens are noticed") {
  const auto gathers = [] {
    for (const int columns : kColumns) check_gather(mutant_arch(), columns, 1);
    return true;
  };
  const auto takes = [] {
    for (const int count : kCounts) check_take(mutant_arch(), count, 1);
    return true;
  };
  CHECK(unlisted_mutants("rows", {{cuda::Kernel::gather_rows, gathers}, {cuda::Kernel::take_tokens, takes}}) == "");
}
