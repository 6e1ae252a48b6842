// sum_ranks and join_ranks on the PTX interpreter, against what they are by definition.
#include "kernels/cuda/ranks.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

/// `offset`: floats that both lie behind an address of 16 bytes.
void check_sum(int arch, int ranks, int count, int offset, int schedules) {
  CAPTURE(arch, ranks, count, offset);
  SimLauncher sim(arch, 0, schedules);
  const std::vector<float> parts = normals(static_cast<std::size_t>(ranks * count + offset), 5);
  const Tensor in = sim.put(parts, DType::f32, {ranks * count + offset}, "parts");
  const Tensor out = sim.output(DType::f32, {count + offset}, "out");
  cuda::sum_ranks(sim, in.as<float>() + offset, ranks, count, out.as<float>() + offset);
  const auto found = sim.get<float>(out.as<float>() + offset, static_cast<std::size_t>(count));
  const float* const from = parts.data() + offset;
  for (std::size_t i = 0; i < found.size(); ++i) {
    float sum = from[i];
    for (std::size_t rank = 1; rank < static_cast<std::size_t>(ranks); ++rank) sum += from[rank * found.size() + i];
    HOLDS(found[i] == sum);
  }
}

void check_sums(int arch, int schedules) {
  for (const int ranks : {1, 2, 3, 5, 8}) {
    for (const int count : {1, 3, 4, 5, 1020, 1023, 1024, 1025, 1028, 2100})
      check_sum(arch, ranks, count, 0, schedules);
    for (const int count : {4, 1020, 1024}) check_sum(arch, ranks, count, 1, schedules);
  }
}

void check_joins(int arch, int schedules) {
  for (const int ranks : {1, 2, 3}) {
    for (const int columns : {1, 255, 256, 257, 1023, 1300}) {
      constexpr int kTokens = 3;
      CAPTURE(arch, ranks, columns);
      SimLauncher sim(arch, 0, schedules);
      std::vector<float> parts(static_cast<std::size_t>(ranks * kTokens * columns));
      for (std::size_t i = 0; i < parts.size(); ++i) parts[i] = static_cast<float>(i);
      const Tensor in = sim.put(parts, DType::f32, {ranks, kTokens, columns}, "parts");
      const std::int64_t width = ranks * columns, stride = width + 5;
      Tensor out = sim.output(DType::f32, {kTokens * stride - 5}, "out");
      out = Tensor(out.data, DType::f32, {kTokens, width});
      out.row_stride = stride;
      cuda::join_ranks(sim, in.as<float>(), ranks, out);
      for (int t = 0; t < kTokens; ++t) {
        const auto row = sim.get<float>(out.as<float>() + t * stride, static_cast<std::size_t>(width));
        for (int i = 0; i < width; ++i) {
          const int rank = i / columns, column = i % columns;
          HOLDS(row[static_cast<std::size_t>(i)] ==
                parts[static_cast<std::size_t>((rank * kTokens + t) * columns + column)]);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("sum_ranks adds the parts of every rank in their order") {
  for (const int arch : built_archs()) check_sums(arch, 6);
}

TEST_CASE("join_ranks lays the parts of every rank side by side") {
  for (const int arch : built_archs()) check_joins(arch, 6);
}

TEST_CASE("both were run whole") {
  CHECK(uncovered(cuda::Kernel::sum_ranks) == "");
  CHECK(uncovered(cuda::Kernel::join_ranks) == "");
}

TEST_CASE("faults in both are noticed") {
  const auto sums = [] {
    check_sums(mutant_arch(), 1);
    return true;
  };
  const auto joins = [] {
    check_joins(mutant_arch(), 1);
    return true;
  };
  CHECK(unlisted_mutants("rows", {{cuda::Kernel::sum_ranks, sums}, {cuda::Kernel::join_ranks, joins}}) == "");
}
