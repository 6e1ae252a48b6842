// rope_table on the PTX interpreter against fp64.
#include <cmath>

#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

std::vector<float> inverse_frequencies(int pairs, double base) {
  std::vector<float> values;
  for (int i = 0; i < pairs; ++i) values.push_back(static_cast<float>(std::pow(base, -double(i) / pairs)));
  return values;
}

/// As published: position and frequency are multiplied in f32, the rest is exact.
void check_table(const std::vector<float>& out, int stride, const std::vector<int>& positions,
                 const std::vector<float>& frequencies, const std::vector<int>& rows, int pairs, double scaling) {
  for (std::size_t t = 0; t < positions.size(); ++t) {
    for (int i = 0; i < pairs; ++i) {
      CAPTURE(positions[t], i);
      const std::size_t row = rows.empty() ? 0 : static_cast<std::size_t>(rows[t]);
      const float angle = static_cast<float>(positions[t]) * frequencies[row * static_cast<std::size_t>(pairs) + i];
      const float* at = &out[t * static_cast<std::size_t>(stride) + 2 * static_cast<std::size_t>(i)];
      // Rounding of the polynomials' last steps, 2^-24 each, and of the product with the scaling.
      HOLDS(std::fabs(at[0] - std::cos(double{angle}) * scaling) < 2.5e-7 * scaling);
      HOLDS(std::fabs(at[1] - std::sin(double{angle}) * scaling) < 2.5e-7 * scaling);
    }
  }
}

void check_positions(int arch, int schedules) {
  for (const int pairs : {1, 8, 31, 64}) {
    CAPTURE(arch, pairs);
    SimLauncher sim(arch, 0, schedules);
    std::vector<int> positions = {0, 1, 2, 3, 5, 7, 4095, 32767, 131071, 524287, 999983, 1000000, 3, 3};
    const std::vector<float> frequencies = inverse_frequencies(pairs, 10000.0);
    RopeTableArgs args;
    const int tokens = static_cast<int>(positions.size());
    args.positions = sim.put(positions, DType::i32, {tokens}, "positions");
    args.inv_freq = sim.put(frequencies, DType::f32, {pairs}, "inv_freq");
    args.out = sim.output(DType::f32, {tokens, pairs, 2}, "out");
    cuda::rope_table(sim, args);
    check_table(sim.get<float>(args.out.data, static_cast<std::size_t>(tokens) * pairs * 2), 2 * pairs, positions,
                frequencies, {}, pairs, 1.0);
  }
}

void check_rows(int arch, int schedules) {
  const int pairs = 24, tokens = 11, stride = 2 * pairs + 6;
  SimLauncher sim(arch, 0, schedules);
  std::vector<float> frequencies = inverse_frequencies(pairs, 500000.0);
  const std::vector<float> more = inverse_frequencies(pairs, 77.0);
  frequencies.insert(frequencies.end(), more.begin(), more.end());
  std::vector<int> positions, rows;
  for (int t = 0; t < tokens; ++t) positions.push_back(t * t * 97), rows.push_back(t % 3 == 1);
  RopeTableArgs args;
  args.positions = sim.put(positions, DType::i32, {tokens}, "positions");
  args.inv_freq = sim.put(frequencies, DType::f32, {2, pairs}, "inv_freq");
  args.rows = sim.put(rows, DType::i32, {tokens}, "rows");
  args.attention_scaling = 1.1386f;
  args.out = sim.put(std::vector<float>(tokens * stride, 7.0f), DType::f32, {tokens, pairs, 2}, "out");
  args.out.row_stride = stride;
  cuda::rope_table(sim, args);
  const auto out = sim.get<float>(args.out.data, tokens * stride);
  check_table(out, stride, positions, frequencies, rows, pairs, double{1.1386f});
  for (int t = 0; t < tokens; ++t) {
    for (int i = 2 * pairs; i < stride; ++i) HOLDS(out[static_cast<std::size_t>(t * stride + i)] == 7.0f);
  }
}

}  // namespace

TEST_CASE("rope_table agrees with fp64 up to a million positions") {
  for (const int arch : built_archs()) check_positions(arch, 6);
}

TEST_CASE("rope_table takes each token's row of frequencies, scales, and leaves what lies between rows alone") {
  for (const int arch : built_archs()) check_rows(arch, 6);
}

TEST_CASE("rope_table was run whole") { CHECK(uncovered(cuda::Kernel::rope_table) == ""); }

TEST_CASE("faults in rope_table are noticed") {
  const auto is_right = [] {
    check_positions(mutant_arch(), 1);
    check_rows(mutant_arch(), 1);
    return true;
  };
  CHECK(unlisted_mutants("rows", {{cuda::Kernel::rope_table, is_right}}) == "");
}
